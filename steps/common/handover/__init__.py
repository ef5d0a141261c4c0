"""What steps hand to each other, as types with a schema number."""
