"""A run on disk: its directory, its checkpoints, and what a roll-back returns to."""
