"""The quote of a run on this machine, as a table."""

from rich.table import Table

from pipelines.shown.quote_facts import minutes_in_words, quote_heading, tuning_in_words
from presets.memory import GIB
from steps.common.handover.resolved import Resolved
from steps.plan.serving_plan import in_words


def quote_table(resolved: Resolved) -> Table:
    """Return the quote of a run on this machine as a table."""
    quote, recipe, model = resolved.quote, resolved.recipe, resolved.model
    rung, table = quote.first, quote_heading(recipe, model)
    for source in resolved.data.train:
        table.add_row("data", f"{source.in_words}, sha256 {source.sha256[:12]}")
    table.add_row("tuning", f"{recipe.tune.method}, about {quote.training}")
    device = rung.device
    table.add_row("device", f"{device.count} x {device.name}, {device.memory_bytes / GIB:.0f} GiB")
    memory = f"{rung.memory_bytes / GIB:.1f} GiB of {rung.available_bytes / GIB:.1f} GiB free"
    table.add_row("memory", f"{memory}, {tuning_in_words(rung)}")
    if recipe.serve.enabled:
        table.add_row("served", f"by {in_words(resolved.serving_plan)}")
    table.add_row("disk", f"{quote.disk_bytes / GIB:.1f} GiB at most")
    table.add_row(
        "minutes", f"{minutes_in_words(rung)}; about {sum(rung.minutes.values()):.0f} in all, plus the download"
    )
    table.add_row("assumed", "; ".join(quote.assumptions))
    return table
