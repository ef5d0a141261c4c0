"""Readers of a file's bytes, one per kind of source."""
