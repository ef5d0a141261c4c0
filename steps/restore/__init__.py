"""A registered version brought back from the registry, to be served again."""
