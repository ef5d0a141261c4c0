"""Base models: where they come from and the volume that keeps them."""
