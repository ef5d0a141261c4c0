"""The quote: what the run will take, from the model's constants, the data's size and what this machine does a second."""

import math
import time

from presets.memory import GIB, forward_flops, tuning_flops, tuning_memory
from presets.model_preset import Architecture
from recipes.recipe import Recipe
from steps.common import volumes
from steps.common.devices import local_device, memory_available
from steps.common.errors import UserError
from steps.common.resolved import Quote, ResolvedModel
from steps.plan.data import DataSize

CPU_MICRO_BATCH = 2048  # more gains nothing on a processor: its cores are busy well below
GPU_MICRO_BATCH = 16384
# The share of a plain matrix product's speed that a tuning reaches; 0.55 to 0.7 measured with SmolLM2-135M on two cores.
CPU_EFFICIENCY, GPU_EFFICIENCY = 0.55, 0.5
STEP_SECONDS = {"tune": 25.0, "evaluate": 20.0, "rollout": 35.0}  # imports, loading, start of the server


def quote(recipe: Recipe, model: ResolvedModel, train: DataSize, held_out: DataSize) -> Quote:
    """Predict memory, time and disk of a run on this machine.

    Raises:
        UserError: the tuning does not fit the memory, or the run does not fit the disk.
    """
    device = local_device()
    on_cpu = device.kind == "cpu"
    available = memory_available() if on_cpu else int(device.memory_bytes * 0.95)
    micro, recompute, memory = _fit(recipe, model, available, on_cpu)
    tokens = round(train.tokens * recipe.tune.epochs)
    speed = _flops_a_second(on_cpu)
    tuning = tuning_flops(model.architecture, tokens=tokens, recompute=recompute) / speed
    scoring = 3 * forward_flops(model.architecture, tokens=held_out.tokens) / speed
    answers = len(recipe.evaluate.questions) + recipe.evaluate.sample_rows
    minutes = {
        "tune": (STEP_SECONDS["tune"] + tuning) / 60,
        "evaluate": (STEP_SECONDS["evaluate"] + scoring + _generation_seconds(model, answers, recipe, on_cpu)) / 60,
        "rollout": STEP_SECONDS["rollout"] / 60 if recipe.serve.enabled else 0.0,
    }
    disk = _disk(model, recipe)
    return Quote(
        device=device,
        memory_bytes=int(memory),
        available_bytes=available,
        micro_batch_tokens=micro,
        recompute=recompute,
        steps=max(1, math.ceil(tokens / recipe.tune.batch_tokens)),
        tokens=tokens,
        minutes={leg: round(value, 1) for leg, value in minutes.items()},
        disk_bytes=disk,
        assumptions=[
            f"{speed / 1e9:.0f} GFLOP/s reached, from a matrix product timed just now",
            "tokens reckoned from characters: four to a token",
        ],
    )


def _fit(recipe: Recipe, model: ResolvedModel, available: int, on_cpu: bool) -> tuple[int, bool, float]:
    """Choose the largest micro-batch that fits, recomputing activations only where nothing else does."""
    largest = min(recipe.tune.batch_tokens, CPU_MICRO_BATCH if on_cpu else GPU_MICRO_BATCH)
    smallest = min(recipe.data.max_tokens, largest)
    for recompute in (False, True):
        tokens = largest
        while tokens >= smallest:
            memory = _peak(recipe, model.architecture, tokens, recompute, on_cpu)
            if memory <= available:
                return tokens, recompute, memory
            if tokens == smallest:
                break
            tokens = max(smallest, tokens // 2)
    raise UserError(
        f"model {model.name}: tuning it takes {memory / GIB:.1f} GiB of memory and {available / GIB:.1f} GiB are free; "
        f"{'use tune.method=qlora' if recipe.tune.method == 'lora' else 'lower data.max_tokens'}, or take a smaller model"
    )


def _peak(recipe: Recipe, shape: Architecture, tokens: int, recompute: bool, on_cpu: bool) -> float:
    tokens = max(tokens, recipe.data.max_tokens)  # the longest row makes a micro-batch of its own
    rank, method = recipe.tune.rank, recipe.tune.method
    return tuning_memory(shape, method=method, rank=rank, tokens=tokens, recompute=recompute, on_cpu=on_cpu).total


def _flops_a_second(on_cpu: bool) -> float:
    """Time a matrix product on what will compute: a table of devices would be out of date, and this takes no second."""
    if on_cpu:
        import numpy

        size, times = 1024, 6
        a = numpy.ones((size, size), dtype=numpy.float32)
        a @ a
        start = time.perf_counter()
        for _ in range(times):
            a @ a
        return 2 * size**3 * times / (time.perf_counter() - start) * CPU_EFFICIENCY
    import torch

    size, times = 8192, 10
    b = torch.ones(size, size, dtype=torch.bfloat16, device="cuda")
    b @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        b @ b
    torch.cuda.synchronize()
    return 2 * size**3 * times / (time.perf_counter() - start) * GPU_EFFICIENCY


def _generation_seconds(model: ResolvedModel, answers: int, recipe: Recipe, on_cpu: bool) -> float:
    """Writing an answer reads all weights once a token: 10 GB/s of a processor, 1000 GB/s of a GPU, two models."""
    steps = recipe.evaluate.answer_tokens if answers else 0
    return 2 * steps * (2 * model.architecture.parameters / (1e10 if on_cpu else 1e12) + 0.02)


def _disk(model: ResolvedModel, recipe: Recipe) -> int:
    """Bytes that the run writes at most, checked volume by volume.

    Raises:
        UserError: a volume has less.
    """
    import shutil

    stored = 2 * model.architecture.parameters
    weights = 0 if volumes.published_model(model.digest).exists() else stored + model.bytes
    tuned = stored + (1 << 28)  # the merged model; checkpoints and the registry's copy of the adapter
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
                "free some, or set FINELINE_WEIGHTS and FINELINE_RUNS to folders on a larger disk"
            )
    return weights + tuned
