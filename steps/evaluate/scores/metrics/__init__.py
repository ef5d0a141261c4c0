"""The metrics of tasks: each compares an answer with a reference, between 0 and 1."""
