"""sr-core."""
