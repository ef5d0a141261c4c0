"""`fineline plan --cloud`: what a run would take and cost on each instance type of a cloud.

It uses list prices and the constants of the model preset, without any network access, and does not load Hera. Only remote
data and the rows of lm-eval tasks are downloaded.
"""

import json
from typing import Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pipelines.shown.quote_facts import minutes_in_words, quote_heading, tuning_in_words
from presets.gpu_preset import Cloud
from presets.ladder import Candidate
from presets.memory import GIB
from recipes.recipe import Recipe
from steps.common.handover.resolved import Quote, Rung
from steps.common.nodes import instance_types
from steps.plan.check_recipe import CheckedRecipe, CheckScope, check_recipe
from steps.plan.quote.quote import quote_of, stored_bytes
from steps.plan.quote.to_buy import Ladder, offer
from steps.plan.serving_plan import in_words

SHOWN = 10
LEGS = ("provision", "pull", "load", "tune", "evaluate")
LAYOUTS = {"one": "", "parallel": " side by side", "sharded": ", sharded"}


def quote_for(recipe: Recipe, cloud: Cloud, *, as_json: bool) -> int:
    """Print the quote.

    Raises:
        UserError: a run of the recipe would fail, or no instance type fits within its limits.
    """
    checked = check_recipe(recipe, CheckScope())
    model, train = checked.model, checked.data.train
    chosen = offer(recipe, model.architecture, train, checked.held_out, model.bytes, instance_types.of_cloud(cloud))
    disk = model.bytes + 2 * stored_bytes(model.architecture)
    quote = quote_of(chosen, recipe, train, disk, provider="", cloud=cloud)
    if as_json:
        print(json.dumps({"model": model.name, "uri": model.uri, **quote.model_dump(mode="json")}, indent=2))
    else:
        Console(highlight=False).print(_offer_table(checked, chosen, quote))
    return 0


def _offer_table(checked: CheckedRecipe, chosen: Ladder, quote: Quote) -> Group:
    recipe = checked.recipe
    table = Table(title="what it would take, the cheapest first", title_justify="left")
    for column in ("", "instance type", "GPU", "GiB", "left", "$/h", "spot", "minutes", "$"):
        folds = column in ("instance type", "GPU")
        justify: Literal["left", "right"] = "left" if folds else "right"
        table.add_column(column, justify=justify, no_wrap=not folds, overflow="fold", min_width=4 if folds else None)
    fitting = [one for one in chosen.all if one.setup]
    shown = list(dict.fromkeys([*chosen.chosen, *fitting]))[: max(SHOWN, len(chosen.chosen))]
    for one in sorted(shown, key=chosen.all.index):
        table.add_row(*_candidate(one, chosen))
    summary, rung = quote_heading(recipe, checked.model), quote.first
    summary.add_row("tuning", f"{recipe.tune.method}, about {quote.training}")
    summary.add_row("first choice", f"{rung.instance_type}, {rung.capacity}: {tuning_in_words(rung)}{_scored(rung)}")
    first = chosen.chosen[0]
    summary.add_row(
        "minutes", f"{minutes_in_words(rung)}; {first.total_minutes:.0f} in all, the longest is {first.bottleneck}"
    )
    if recipe.serve.enabled:
        summary.add_row("served", f"by {in_words(checked.serving_plan)}")
    summary.add_row("disk", f"{quote.disk_bytes / GIB:.1f} GiB at most")
    summary.add_row("assumed", "; ".join(quote.assumptions))
    hidden = len(fitting) - len(shown)
    nearest = _nearest(chosen.all)
    more = [f"minutes: in all ({', '.join(LEGS)})"]
    more += [f"{hidden} more fit"] if hidden > 0 else []
    more += [f"{len(chosen.all) - len(fitting)} do not fit{nearest}"] if len(fitting) < len(chosen.all) else []
    return Group(summary, table, Text("; ".join(more)))


def _candidate(one: Candidate, chosen: Ladder) -> tuple[str, ...]:
    setup, preset = one.setup, one.preset
    assert setup is not None
    place = f"{chosen.chosen.index(one) + 1}" if one in chosen.chosen else ""
    gpus = f"{preset.gpu}" if preset.gpus == 1 else f"{setup.gpus} of {preset.gpus} {preset.gpu}{LAYOUTS[setup.layout]}"
    return (
        place,
        f"{preset.instance_type} {one.capacity}" if one.capacity == "spot" else preset.instance_type,
        gpus,
        f"{setup.memory_bytes / GIB:.1f}/{one.available_bytes / GIB:.1f}",
        f"{one.headroom:.0%}",
        _dollars(preset.on_demand),
        _dollars(preset.spot),
        f"{one.total_minutes:.0f} ({' '.join(f'{one.minutes[leg]:.0f}' for leg in LEGS)})",
        _dollars(one.cost),
    )


def _nearest(found: list[Candidate]) -> str:
    """Return the closest instance type that does not fit, and why, in words."""
    short = [one for one in found if not one.setup and not one.preset.why_unfit]
    if not short:
        return ""
    best = max(short, key=lambda one: one.available_bytes)
    return f" (the closest, {best.preset.instance_type}: {best.why_not})"


def _scored(rung: Rung) -> str:
    return "; evaluated in 4 bits, as tuned" if rung.evaluated_in_4_bits else ""


def _dollars(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
