"""Base, candidate and champion on the same rows, as they will be served; the gate's verdict."""
