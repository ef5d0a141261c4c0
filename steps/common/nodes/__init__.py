"""GPU nodes: what can be bought, what was bought, and how it is given back."""
