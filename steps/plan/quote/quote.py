"""The quote: what the run will take, on this machine, on existing nodes, or on nodes that are bought for it."""

import math
import shutil

from presets.architecture import Architecture
from presets.gpu_preset import GpuPreset
from presets.ladder import ASSUMPTIONS
from presets.memory import GIB
from recipes.recipe import Recipe
from steps.common.gguf.quantisations import file_bytes
from steps.common.handover.resolved import Quote, ResolvedModel, Rung
from steps.common.nodes import gpu_nodes, instance_types, node_classes
from steps.common.nodes.node_provider import PROVIDERS, NodeProvider, node_provider
from steps.common.runtime import cluster_settings, settings
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.plan.data.data_file import DataSize
from steps.plan.quote.live_prices import with_live_prices
from steps.plan.quote.this_machine import this_machine
from steps.plan.quote.to_buy import Ladder, offer, rung

CHARACTERS = "four characters per token"


def quote(recipe: Recipe, model: ResolvedModel, train: DataSize, held_out: DataSize) -> Quote:
    """Predict memory, time, cost and disk of a run on the hardware of this place.

    Raises:
        UserError: no hardware fits, none within the recipe's limits, or a disk is too small.
    """
    provider, shape = node_provider(), model.architecture
    stored = volumes.published_model(model.digest).exists()
    disk = _disk(model, recipe)
    if not provider:
        found, assumed = this_machine(recipe, model.name, shape, train, held_out)
        _within_hours(recipe, found)
        return Quote(ladder=[found], **_steps(recipe, train), disk_bytes=disk, assumptions=[assumed, CHARACTERS])
    if PROVIDERS[provider].buys and cluster_settings.one_node():
        raise UserError(
            f"the setting {cluster_settings.ONE_NODE_SETTING} keeps all steps on the node that mounts the volumes, and "
            f"{settings.COMPUTE_SETTING}={provider.value} adds nodes; use a StorageClass with ReadWriteMany and remove the "
            "component one-node"
        )
    presets, cloud, priced = _instance_types(provider)
    chosen = offer(recipe, shape, train, held_out, 0 if stored else model.bytes, presets)
    return quote_of(chosen, recipe, train, disk, provider=provider, cloud=cloud, priced=priced)


def quote_of(
    chosen: Ladder, recipe: Recipe, train: DataSize, disk: int, *, provider: str, cloud: str, priced: str = ""
) -> Quote:
    """Return the quote of an offer.

    Args:
        chosen: the offer.
        recipe: the recipe.
        train: size of the training rows.
        disk: bytes that the run will write.
        provider: provider of the nodes.
        cloud: cloud whose prices apply.
        priced: source of live prices.
    """
    prices = priced or f"list prices of {chosen.chosen[0].preset.priced_on or 'an unknown day'}"
    return Quote(
        ladder=[rung(one, chosen.job) for one in chosen.chosen],
        **_steps(recipe, train),
        disk_bytes=disk,
        assumptions=[*ASSUMPTIONS, *([prices] if cloud else []), CHARACTERS],
        provider=provider,
        cloud=cloud,
    )


def _instance_types(provider: NodeProvider) -> tuple[list[GpuPreset], str, str]:
    """Return the instance types of a provider, their cloud, and the source of their prices if these are live."""
    if provider is NodeProvider.EXISTING_NODES:
        return gpu_nodes.existing(), "", ""
    if provider is NodeProvider.COMPUTE_CLASS:
        return [preset for preset in instance_types.of_cloud("gcp") if preset.accelerator], "gcp", ""
    cloud = node_classes.node_class_kind().cloud
    presets, priced = with_live_prices(instance_types.of_cloud(cloud))
    return presets, cloud, priced


def _steps(recipe: Recipe, train: DataSize) -> dict[str, int]:
    tokens = round(train.tokens * recipe.tune.epochs)
    return {"tokens": tokens, "steps": max(1, math.ceil(tokens / recipe.tune.batch_tokens))}


def _within_hours(recipe: Recipe, found: Rung) -> None:
    hours, limit = sum(found.minutes.values()) / 60, recipe.compute.max_hours
    if limit and hours > limit:
        raise UserError(
            f"compute.max_hours: the limit is {limit:g} h, and {found.device.name} would take {hours:.1f} h; "
            "raise the limit, or train on less"
        )


def stored_bytes(shape: Architecture) -> int:
    """Return the bytes of a model's weights on a volume."""
    return 2 * shape.parameters


def _disk(model: ResolvedModel, recipe: Recipe) -> int:
    """Return the bytes that the run writes at most, after checking that each volume has room for its share.

    Raises:
        UserError: a volume has too little free space.
    """
    stored = stored_bytes(model.architecture)
    weights = 0 if volumes.published_model(model.digest).exists() else stored + model.bytes
    tuned = stored + (1 << 28)  # the merged model, then checkpoints and the registry's copy of the adapter
    if recipe.export.gguf != "none":
        tuned += file_bytes(model.architecture, recipe.export.gguf)
    needs = {volumes.weights(): weights, volumes.runs(): tuned}
    free: dict[int, tuple[int, int]] = {}
    for volume, need in needs.items():
        place = volume
        while not place.exists():
            place = place.parent
        disk = place.stat().st_dev
        taken = free.get(disk, (0, 0))[1]
        free[disk] = (shutil.disk_usage(place).free, taken + need)
        if free[disk][1] > free[disk][0]:
            raise UserError(
                f"{volume}: the run writes {free[disk][1] / GIB:.2f} GiB and {free[disk][0] / GIB:.2f} GiB are free; "
                "free some space, or set FINELINE_WEIGHTS and FINELINE_RUNS to folders on a larger disk"
            )
    return weights + tuned
