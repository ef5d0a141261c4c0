"""Checks and estimates before a server is started."""
