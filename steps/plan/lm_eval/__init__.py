"""Looks at the recipe's tasks of lm-eval: what would fail after a training fails here."""
