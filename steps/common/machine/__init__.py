"""This machine: what it computes with and what it serves."""
