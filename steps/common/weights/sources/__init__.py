"""Where weights come from: one module a scheme, each listing a model's files with their sizes and hashes."""
