"""Adapters for trainers. Each module names one trainer and imports it only where it must."""
