"""Atomic files and folders, the two volumes, and object stores."""
