"""What the API remembers of its own: teams, keys, names of files, owners of models."""
