"""Checks whether a namespace has everything that a run needs, and says how to fix what it lacks."""
