"""Gives back what provision took, and closes the run's record."""
