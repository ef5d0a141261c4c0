"""Rows to tokens: validated, without duplicates or leakage, labelled, with a digest."""
