"""`fineline plan`: the quote, and nothing left behind."""

import json

from rich.console import Console
from rich.table import Table

from presets.memory import GIB
from recipes.read import load, override_of
from recipes.recipe import Recipe
from steps.common.resolved import Resolved
from steps.plan.step import PlanInput, resolve


def plan(reference: str, overrides: list[str], *, as_json: bool) -> int:
    """Print what a run would do and take.

    Raises:
        RecipeError: the recipe cannot be used.
        UserError: a run would fail.
    """
    recipe = load(reference, dict(override_of(text) for text in overrides))
    resolved = resolve(PlanInput(recipe=as_text(recipe)))
    if as_json:
        print(resolved.model_dump_json(indent=2))
    else:
        Console(highlight=False).print(quote_table(resolved))
    return 0


def as_text(recipe: Recipe) -> str:
    """Return a recipe as the workflow's parameter holds it: JSON, which is YAML too, paths absolute."""
    return json.dumps(recipe.model_dump(mode="json", exclude_defaults=True))


def quote_table(resolved: Resolved) -> Table:
    """Return the quote as a table."""
    quote, recipe, model = resolved.quote, resolved.recipe, resolved.model
    table = Table(title=f"quote for {recipe.name}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("model", f"{model.name} ({model.architecture.parameters / 1e6:.0f}M parameters, {model.licence})")
    table.add_row("source", f"{model.uri}, {model.bytes / 1e6:.0f} MB")
    table.add_row("data", f"{resolved.data.train.path}, sha256 {resolved.data.train.sha256[:12]}")
    table.add_row("tuning", f"{recipe.tune.method}, about {quote.tokens} tokens in {quote.steps} steps")
    device = quote.device
    table.add_row("device", f"{device.count} x {device.name}, {device.memory_bytes / GIB:.0f} GiB")
    how = ", activations recomputed" if quote.recompute else ""
    memory = f"{quote.memory_bytes / GIB:.1f} GiB of {quote.available_bytes / GIB:.1f} GiB free"
    table.add_row("memory", f"{memory}, with micro-batches of {quote.micro_batch_tokens} tokens{how}")
    table.add_row("disk", f"{quote.disk_bytes / GIB:.1f} GiB at most")
    legs = ", ".join(f"{leg} {minutes:g}" for leg, minutes in quote.minutes.items() if minutes)
    table.add_row("minutes", f"{legs}; about {sum(quote.minutes.values()):.0f} in all, and the download")
    table.add_row("assumed", "; ".join(quote.assumptions))
    return table
