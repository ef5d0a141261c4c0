"""What computes: this machine, nodes that are there, or nodes that are bought."""
