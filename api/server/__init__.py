"""The front of the API: its routes, what they share, and what stands before them."""
