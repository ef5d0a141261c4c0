"""The pods of steps: their containers, and the fixed patch of those that compute."""
