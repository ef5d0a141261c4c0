"""Restores a registered version, to be served again."""
