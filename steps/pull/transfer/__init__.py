"""Many ranges at once, hashed as they arrive, and resumable to the byte."""
