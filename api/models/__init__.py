"""Tuned models, and the front door to those that are served."""
