"""Trajectories, their statistics, and the verdict on a recorded run."""
