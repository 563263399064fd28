"""From a model's completion to a grade: the program, the comparison, the statistics over samples."""
