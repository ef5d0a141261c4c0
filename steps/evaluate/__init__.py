"""The evaluate step: scores base, candidate and champion on the same rows, and decides whether the candidate passes."""
