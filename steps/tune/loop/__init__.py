"""The training loop: micro-batches, optimizer steps, checkpoints, and when to stop."""
