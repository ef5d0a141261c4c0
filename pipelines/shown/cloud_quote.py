"""`fineline plan --cloud`: what a run would take and cost on each instance type of a cloud, told from here.

It asks nobody: list prices, and what a preset knows of the model. Hera and all that a run needs besides are not loaded. Only
data that lie elsewhere are fetched, and so are the rows of lm-eval's tasks, which are packed as they will be asked.
"""

import json
from typing import Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pipelines.shown.quote_facts import facts, how, legs
from presets.gpu_preset import Cloud
from presets.ladder import Candidate
from presets.memory import GIB
from recipes.recipe import Recipe
from steps.common.handover.resolved import KnownModel, Quote, Rung
from steps.common.nodes import instance_types
from steps.plan.data.data_file import look
from steps.plan.lm_eval.recipe_tasks import asked_too, look_at_lm_eval
from steps.plan.model import check_context, check_tunable, known_model
from steps.plan.quote.quote import quote_of, stored_bytes
from steps.plan.quote.to_buy import Ladder, offer
from steps.plan.serving_plan import in_words, plan_serving

SHOWN = 10
LEGS = ("provision", "pull", "load", "tune", "evaluate")
LAYOUTS = {"one": "", "parallel": " side by side", "sharded": ", sharded"}


def quote_for(recipe: Recipe, cloud: Cloud, *, as_json: bool) -> int:
    """Print the quote.

    Raises:
        UserError: nothing fits, or nothing within the recipe's limits; or a task of lm-eval cannot be asked.
    """
    check_tunable(recipe.model, recipe.tune.method)
    model = known_model(recipe.model)
    check_context(recipe, model.architecture)
    _, train, held_out = look(recipe.data, recipe.tune.objective)
    scored = asked_too(held_out, look_at_lm_eval(recipe))
    chosen = offer(recipe, model.architecture, train, scored, model.bytes, instance_types.of_cloud(cloud))
    disk = model.bytes + 2 * stored_bytes(model.architecture)
    quote = quote_of(chosen, recipe, train, disk, provider="", cloud=cloud)
    if as_json:
        print(json.dumps({"model": model.name, "uri": model.uri, **quote.model_dump(mode="json")}, indent=2))
    else:
        Console(highlight=False).print(_offer_table(recipe, model, chosen, quote))
    return 0


def _offer_table(recipe: Recipe, model: KnownModel, chosen: Ladder, quote: Quote) -> Group:
    table = Table(title="what it would take, the cheapest first", title_justify="left")
    for column in ("", "instance type", "GPU", "GiB", "left", "$/h", "spot", "minutes", "$"):
        folds = column in ("instance type", "GPU")
        justify: Literal["left", "right"] = "left" if folds else "right"
        table.add_column(column, justify=justify, no_wrap=not folds, overflow="fold", min_width=4 if folds else None)
    fitting = [one for one in chosen.all if one.setup]
    shown = list(dict.fromkeys([*chosen.chosen, *fitting]))[: max(SHOWN, len(chosen.chosen))]
    for one in sorted(shown, key=chosen.all.index):
        table.add_row(*_candidate(one, chosen))
    told, rung = facts(recipe, model), quote.first
    told.add_row("tuning", f"{recipe.tune.method}, about {quote.tokens} tokens in {quote.steps} steps")
    told.add_row("first choice", f"{rung.instance_type}, {rung.capacity}: {how(rung)}{_scored(rung)}")
    first = chosen.chosen[0]
    told.add_row("minutes", f"{legs(rung)}; {first.total_minutes:.0f} in all, the longest is {first.bottleneck}")
    if recipe.serve.enabled:
        told.add_row("served", f"by {in_words(plan_serving(recipe, model))}")
    told.add_row("disk", f"{quote.disk_bytes / GIB:.1f} GiB at most")
    told.add_row("assumed", "; ".join(quote.assumptions))
    hidden = len(fitting) - len(shown)
    nearest = _nearest(chosen.all)
    more = [f"minutes: in all ({', '.join(LEGS)})"]
    more += [f"{hidden} more fit"] if hidden > 0 else []
    more += [f"{len(chosen.all) - len(fitting)} do not fit{nearest}"] if len(fitting) < len(chosen.all) else []
    return Group(told, table, Text("; ".join(more)))


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
    """Return the best of what does not fit, and why, in words."""
    short = [one for one in found if not one.setup and not one.preset.why_unfit]
    if not short:
        return ""
    best = max(short, key=lambda one: one.available_bytes)
    return f" (the nearest, {best.preset.instance_type}: {best.why_not})"


def _scored(rung: Rung) -> str:
    return "; evaluated in 4 bits, as tuned" if rung.evaluated_in_4_bits else ""


def _dollars(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
