"""Arguments that several commands share."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recipes.recipe import Recipe


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add a recipe and its overrides."""
    parser.add_argument(
        "recipe",
        nargs="?",
        default="pet-store",
        help="path of a recipe file, or the name of a built-in recipe (default: pet-store)",
    )
    parser.add_argument(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the recipe, for example -o tune.epochs=2; may be repeated",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the switch to JSON output."""
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add where on which cluster Fineline is installed."""
    parser.add_argument(
        "-n",
        "--namespace",
        default="",
        help="namespace in which Fineline is installed (default: the kubeconfig context's namespace)",
    )
    parser.add_argument("--context", default="", help="kubeconfig context to use (default: the current context)")


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Add the switch to follow a run."""
    parser.add_argument("-w", "--watch", action="store_true", help="follow the run until it ends")


def load_recipe(parsed: argparse.Namespace) -> "Recipe":
    """Return the recipe that `add_recipe`'s arguments name, overrides applied.

    Raises:
        RecipeError: the recipe cannot be used.
    """
    from recipes.reader import load, override_of

    return load(parsed.recipe, dict(override_of(text) for text in parsed.override))
