"""A recipe as the workflow's parameter `recipe` holds it."""

import json

from recipes.recipe import Recipe


def as_text(recipe: Recipe) -> str:
    """Return the recipe as JSON, which is YAML too, with absolute paths and without its defaults."""
    return json.dumps(recipe.model_dump(mode="json", exclude_defaults=True))
