"""Comparisons of arms over seeds: ``spec`` reads what is compared, ``chains`` runs it."""
