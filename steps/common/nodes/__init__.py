"""GPU nodes: who provides them, what can be bought, what was bought, and how it is given back."""
