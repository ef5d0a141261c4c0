"""Gives back what provision got, and closes the run's record."""
