"""Comparisons of runs: ``spec`` says what is compared, ``jobs`` runs it, ``records`` is what is kept of each run."""
