"""Compares the candidate with base and champion, and passes or refuses it."""
