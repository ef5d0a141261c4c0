"""The rows that all quotes share, and the words for a rung."""

from rich.table import Table

from recipes.recipe import Recipe
from steps.common.handover.resolved import KnownModel, Rung

ACTIVATIONS = {
    "kept": "",
    "recomputed": ", activations recomputed",
    "offloaded": ", activations recomputed and offloaded",
}


def quote_heading(recipe: Recipe, model: KnownModel) -> Table:
    """Return the table of a quote with its first rows: the model and its source."""
    table = Table(title=f"quote for {recipe.name}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("model", f"{model.name} ({model.architecture.parameters / 1e6:.0f}M parameters, {model.licence})")
    table.add_row("source", f"{model.uri}, {model.bytes / 1e6:.0f} MB")
    return table


def tuning_in_words(rung: Rung) -> str:
    """Return the configuration of the tuning in words."""
    return f"with micro-batches of {rung.micro_batch_tokens} tokens{ACTIVATIONS[rung.activations]}"


def minutes_in_words(rung: Rung) -> str:
    """Return the minutes of each leg in words."""
    return ", ".join(f"{leg} {minutes:g}" for leg, minutes in rung.minutes.items() if minutes)
