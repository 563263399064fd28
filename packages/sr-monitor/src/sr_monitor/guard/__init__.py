"""Guards: what to evaluate next, and when to roll back or stop."""
