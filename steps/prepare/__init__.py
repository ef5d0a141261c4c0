"""Turns rows into labelled tokens: validated, deduplicated, split without leakage, and stored under a digest."""
