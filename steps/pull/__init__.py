"""The pull step: puts the base model's files, verified, on the weights volume once."""
