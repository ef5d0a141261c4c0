"""Tunes an adapter, from checkpoints that survive a kill."""
