"""`fineline schema`: the recipe's JSON Schema."""

import argparse

HELP = "print the JSON Schema of a recipe"
DESCRIPTION = "Print the JSON Schema of a recipe, for editors and validators. It describes every key and its default."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: the command has none."""


def execute(_parsed: argparse.Namespace) -> int:
    """Print the schema."""
    import json

    from recipes.recipe import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=2))
    return 0
