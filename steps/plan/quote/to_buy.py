"""The ladder of instance types for a run: which ones, in which order, and why not the others."""

from dataclasses import dataclass

from presets.architecture import Architecture
from presets.gpu_preset import Capacity, GpuPreset
from presets.ladder import Candidate, Workload, candidates, host_bytes, what_would_fit
from presets.memory import GIB
from recipes.recipe import Recipe
from steps.common.handover.resolved import Device, Rung
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import DataSize
from steps.plan.data.task_files import GENERAL_TOKENS
from steps.plan.quote.pair_tokens import longest_row, reference_tokens

LONGEST_LADDER = 8
CAPACITIES: dict[str, list[Capacity]] = {
    "on-demand": ["on-demand"],
    "spot": ["spot"],
    "spot-first": ["spot", "on-demand"],
}


@dataclass(frozen=True)
class Ladder:
    """What a run would take on each instance type, and the types that it would try."""

    job: Workload
    all: list[Candidate]
    chosen: list[Candidate]


def offer(
    recipe: Recipe,
    shape: Architecture,
    train: DataSize,
    held_out: DataSize,
    weight_bytes: int,
    presets: list[GpuPreset],
) -> Ladder:
    """Evaluate every candidate, and choose.

    Args:
        recipe: the recipe.
        shape: the constants of the model.
        train: size of the training rows.
        held_out: size of the held-out rows and of the lm-eval tasks.
        weight_bytes: bytes to download.
        presets: the available instance types.

    Raises:
        UserError: no type fits, or none within the recipe's limits; the line says by how much and what to do.
    """
    wanted = recipe.compute.instance_types
    if unknown := [name for name in wanted if name not in {preset.instance_type for preset in presets}]:
        raise UserError(
            f"compute.instance_types: {unknown[0]} is in no GPU preset; add it in a file of your own (FINELINE_GPU_PRESETS)"
        )
    considered = [preset for preset in presets if not wanted or preset.instance_type in wanted]
    job = Workload(
        shape=shape,
        method=recipe.tune.method,
        rank=recipe.tune.rank,
        longest_row=longest_row(recipe),
        batch_tokens=recipe.tune.batch_tokens,
        train_tokens=round(train.tokens * recipe.tune.epochs),
        held_out_tokens=held_out.scored + (GENERAL_TOKENS if recipe.evaluate.general else 0),
        answers=recipe.evaluate.answers,
        answer_tokens=recipe.evaluate.answer_tokens,
        written_tokens=held_out.written,
        weight_bytes=weight_bytes,
        reference_tokens=reference_tokens(recipe, train),
        evaluated_tokens=round(recipe.tune.evaluated_tokens(train.tokens * recipe.tune.epochs, held_out.tokens)),
        dora=recipe.tune.dora,
        shareable=recipe.tune.shareable,
    )
    found = candidates(job, considered, CAPACITIES[recipe.compute.capacity])
    fitting = [one for one in found if one.setup]
    if not fitting:
        raise UserError(_nothing_fits(recipe, job, found, considered))
    within = [one for one in fitting if not over_limit(recipe, one)]
    if not within:
        raise UserError(over_limit(recipe, min(fitting, key=lambda one: _worst(recipe, one))))
    return Ladder(job, found, _ladder(recipe, within)[:LONGEST_LADDER])


def over_limit(recipe: Recipe, one: Candidate) -> str:
    """Return which of the recipe's limits a candidate exceeds, and by how much; empty if none."""
    limits, cost, hours = recipe.compute, one.cost_at_most, one.total_minutes / 60
    where = f"{one.preset.instance_type} ({one.capacity})"
    if limits.max_cost and cost is None:
        return f"compute.max_cost: the price of {where} is unknown; add it in a file of your own (FINELINE_GPU_PRESETS)"
    if limits.max_cost and cost is not None and cost > limits.max_cost:
        return (
            f"compute.max_cost: the limit is ${limits.max_cost:g}, and the cheapest type that fits, {where}, would cost "
            f"${cost:.2f} ({one.billed_minutes:.0f} min, prices of {one.preset.priced_on or 'your file'}); "
            "raise the limit, or train on less"
        )
    if limits.max_hours and hours > limits.max_hours:
        return (
            f"compute.max_hours: the limit is {limits.max_hours:g} h, and {where} would take {hours:.1f} h; "
            "raise the limit, allow faster types, or train on less"
        )
    return ""


def _worst(recipe: Recipe, one: Candidate) -> float:
    """Return by which factor a candidate exceeds the limits, at most."""
    limits = recipe.compute
    cost = (one.cost_at_most or float("inf")) / limits.max_cost if limits.max_cost else 0.0
    return max(cost, one.total_minutes / 60 / limits.max_hours if limits.max_hours else 0.0)


def _ladder(recipe: Recipe, fitting: list[Candidate]) -> list[Candidate]:
    """Return the candidates, cheapest first. With `spot-first`, each type on spot directly precedes the type on demand."""
    if recipe.compute.capacity != "spot-first":
        return fitting
    # The on-demand price places a type; without one, the spot price does.
    place: dict[str, int] = {}
    for number, one in enumerate(fitting):
        if one.capacity == "on-demand" or one.preset.instance_type not in place:
            place[one.preset.instance_type] = number
    return sorted(fitting, key=lambda one: (place[one.preset.instance_type], one.capacity == "on-demand"))


def _nothing_fits(recipe: Recipe, job: Workload, found: list[Candidate], considered: list[GpuPreset]) -> str:
    if gone := [one for one in found if one.sold_out]:
        types = ", ".join(dict.fromkeys(one.preset.instance_type for one in gone[:3]))
        return (
            f"model {recipe.model}: every instance type that it fits ({types}) {gone[0].why_not}; "
            "allow more in compute.instance_types, set compute.capacity=spot-first, or try again in a few hours"
        )
    if not found:
        return "compute.instance_types: no instance types to choose from"
    best = max(found, key=lambda one: (not one.preset.why_unfit, one.available_bytes))
    why = f"{best.preset.instance_type} ({best.preset.gpus} x {best.preset.gpu}): {best.why_not}"
    return f"model {recipe.model}: no instance type fits. The closest is {why}; {what_would_fit(job, considered)}"


def rung(one: Candidate, job: Workload) -> Rung:
    """Return the rung of a candidate that fits."""
    preset, setup = one.preset, one.setup
    assert setup is not None
    cost = one.cost_at_most
    return Rung(
        device=Device(kind="cuda", name=preset.gpu, count=setup.gpus, memory_bytes=preset.gpu_bytes),
        micro_batch_tokens=setup.micro_batch_tokens,
        activations=setup.activations,
        memory_bytes=int(setup.memory_bytes),
        available_bytes=int(one.available_bytes),
        evaluated_in_4_bits=setup.evaluated_in_4_bits,
        host_bytes=host_bytes(job, setup),
        minutes={leg: round(minutes, 1) for leg, minutes in one.minutes.items()},
        instance_type=preset.instance_type,
        capacity=one.capacity,
        gpus=setup.gpus,
        processes=setup.gpus,
        sharded=setup.layout == "sharded",
        node_gpus=preset.gpus,
        vcpus=preset.vcpus or 0,
        node_bytes=int((preset.memory_gib or 0) * GIB),
        accelerator=preset.accelerator,
        price=one.price,
        price_at_most=one.price_at_most,
        priced_on=preset.priced_on,
        cost=None if cost is None else round(cost, 2),
    )


def in_words(one: Rung) -> str:
    """Return a rung as one line."""
    device = one.device
    what = f"{device.count} x {device.name}"
    what = f"{one.instance_type} ({what}), {one.capacity}" if one.instance_type else what
    price = f", ${one.price:g}/h" if one.price is not None else ""
    cost = f", ${one.cost:.2f} in total" if one.cost is not None else ""
    return f"{what}{price}{cost}, memory {one.memory_bytes / GIB:.1f} of {one.available_bytes / GIB:.1f} GiB"
