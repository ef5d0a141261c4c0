"""What the run will take: memory, minutes, dollars, and disk."""
