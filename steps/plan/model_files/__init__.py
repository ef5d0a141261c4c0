"""What is asked of a model's files before any of its weights are fetched."""
