"""What is believed about the effect of training: the linear-Gaussian model, its posterior, and its revision."""
