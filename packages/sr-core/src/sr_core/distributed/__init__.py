"""Several processes on one run: who does what, and states whose tensors are sharded among them."""
