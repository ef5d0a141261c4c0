"""Gets hardware for a run: this machine, existing nodes, or nodes that are bought."""
