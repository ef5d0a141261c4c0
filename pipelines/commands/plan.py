"""`fineline plan`: what a run would do, need and cost, on this machine or in a cloud."""

import argparse

from pipelines.shown.arguments import add_json, add_recipe, load_recipe

HELP = "show what a run would do, need and cost, without running it"
DESCRIPTION = (
    "Check a recipe and show what a run of it would do, how much memory, disk and time it would need, and, with --cloud, "
    "what it would cost. Nothing is tuned or served."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_recipe(parser)
    add_json(parser)
    parser.add_argument(
        "--cloud",
        choices=["aws", "azure", "gcp"],
        help="quote for the GPU instance types of this cloud (default: for this machine)",
    )


def execute(parsed: argparse.Namespace) -> int:
    """Print the plan.

    Raises:
        RecipeError: the recipe cannot be used.
        UserError: a run would fail, or nothing fits within the recipe's limits.
    """
    recipe = load_recipe(parsed)
    if parsed.cloud:
        from pipelines.shown.cloud_quote import quote_for

        return quote_for(recipe, parsed.cloud, as_json=parsed.json)
    from rich.console import Console

    from pipelines.shown.quote_table import quote_table
    from pipelines.workflows.parameters import as_text
    from steps.plan.step import PlanInput, resolve

    resolved = resolve(PlanInput(recipe=as_text(recipe)))
    if parsed.json:
        print(resolved.model_dump_json(indent=2))
    else:
        Console(highlight=False).print(quote_table(resolved))
    return 0
