"""Transfers files in many ranges at once, hashes them as they arrive, and resumes at the byte."""
