"""The capability-effect memory on disk: one SQLite file, its schema, and the sums of evidence kept in it."""
