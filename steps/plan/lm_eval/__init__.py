"""Packs and tries the recipe's tasks of lm-eval, so that they cannot fail for the first time after the tuning."""
