"""From a graded batch to new weights: the update, how far it may move, float32 master weights, weight averaging."""
