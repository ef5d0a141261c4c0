"""What every quote begins with, and how a rung is told of."""

from rich.table import Table

from recipes.recipe import Recipe
from steps.common.handover.resolved import KnownModel, Rung

HOW = {"kept": "", "recomputed": ", activations recomputed", "offloaded": ", activations recomputed and offloaded"}


def facts(recipe: Recipe, model: KnownModel) -> Table:
    """Return the table of a quote with what it is about."""
    table = Table(title=f"quote for {recipe.name}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("model", f"{model.name} ({model.architecture.parameters / 1e6:.0f}M parameters, {model.licence})")
    table.add_row("source", f"{model.uri}, {model.bytes / 1e6:.0f} MB")
    return table


def how(rung: Rung) -> str:
    """Return how the tuning would run, in words."""
    return f"with micro-batches of {rung.micro_batch_tokens} tokens{HOW[rung.activations]}"


def legs(rung: Rung) -> str:
    """Return the minutes of each leg, in words."""
    return ", ".join(f"{leg} {minutes:g}" for leg, minutes in rung.minutes.items() if minutes)
