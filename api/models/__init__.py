"""Tuned models, and the door to those that are served."""
