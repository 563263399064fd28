"""Measuring a policy on tasks: samples, verdicts, capabilities."""
