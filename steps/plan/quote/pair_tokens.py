"""The additional tokens of training on pairs."""

from recipes.recipe import Recipe
from steps.common.rows.row_kinds import PAIRS
from steps.plan.data.data_file import DataSize


def longest_row(recipe: Recipe) -> int:
    """Return how many tokens must stay together in a micro-batch: those of a row, or of both sides of a pair."""
    return recipe.data.max_tokens * (2 if recipe.tune.objective == PAIRS else 1)


def reference_tokens(recipe: Recipe, train: DataSize) -> int:
    """Return how many tokens the base reads as the reference: each pair once, regardless of the epochs."""
    return round(train.tokens * min(1.0, recipe.tune.epochs)) if recipe.tune.objective == PAIRS else 0
