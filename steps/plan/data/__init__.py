"""The recipe's data and task files: located, inspected, and pinned by digest."""
