"""Sources of weights: one module per scheme, which lists a model's files with their sizes and hashes."""
