"""The training loop: steps, micro-batches, checkpoints, evaluation on held-out rows, and what stops it."""
