"""What a training minimises."""
