"""Gives back what no run needs any more."""
