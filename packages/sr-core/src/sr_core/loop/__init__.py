"""A campaign in progress: the record of its step, its evaluations, the policies it retains, its summary."""
