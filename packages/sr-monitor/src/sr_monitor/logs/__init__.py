"""Readers of this and other trainers' logs."""
