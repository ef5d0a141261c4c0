"""The recipe's data and task files: located, read once, pinned by digest."""
