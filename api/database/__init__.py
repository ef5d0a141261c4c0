"""The API's own data: teams, keys, names of files, and owners of models."""
