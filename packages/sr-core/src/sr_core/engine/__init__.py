"""Sampling from a policy and scoring its completions, with what samples of a prompt share computed once."""
