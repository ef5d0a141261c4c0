"""Rows of training data: read from a file with their place in it, and brought from their form to one."""
