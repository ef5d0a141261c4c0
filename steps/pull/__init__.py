"""The base model's files, verified, on the weights volume, once."""
