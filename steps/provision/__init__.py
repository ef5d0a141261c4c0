"""What computes: this machine's devices."""
