"""Requests over HTTP: which hosts may be reached, from where, with a token, and without a proxy."""
