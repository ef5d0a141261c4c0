"""The adapter, from checkpoints that survive a kill."""
