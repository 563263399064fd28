"""From a graded batch to new weights: the update, float32 master weights, weight averaging."""
