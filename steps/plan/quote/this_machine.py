"""What a run takes on this machine, from a speed that is measured on the spot."""

import time

from presets.architecture import Architecture
from presets.flops import forward_flops, tuning_flops
from presets.memory import (
    CONTEXT_BYTES,
    CPU_BF16,
    CPU_FP32,
    GIB,
    GPU,
    Activations,
    Stack,
    evaluation_memory,
    offloaded_bytes,
    scored_tokens,
    tuning_memory,
)
from recipes.recipe import Recipe
from steps.common.handover.resolved import Rung
from steps.common.machine.devices import compute_dtype, local_device, memory_available
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import DataSize
from steps.plan.data.task_files import GENERAL_TOKENS
from steps.plan.quote.pair_tokens import longest_row, reference_tokens

CPU_MICRO_BATCH = 2048  # a larger one is not faster on CPUs: their cores are busy with far less
GPU_MICRO_BATCH = 16384
# Share of a plain matrix product's speed that tuning reaches; 0.55 to 0.7 measured with SmolLM2-135M on two cores.
CPU_EFFICIENCY, GPU_EFFICIENCY = 0.55, 0.5
STEP_SECONDS = {"tune": 25.0, "evaluate": 20.0, "rollout": 35.0}  # imports, loading, server start


class TooLittleMemoryError(UserError):
    """The tuning does not fit into the memory that is free now."""


def this_machine(
    recipe: Recipe, name: str, shape: Architecture, train: DataSize, held_out: DataSize
) -> tuple[Rung, str]:
    """Return what a run would take on this machine, and the assumption behind it.

    Args:
        recipe: the recipe.
        name: name of the model, for messages.
        shape: the constants of the model.
        train: size of the training rows.
        held_out: size of the held-out rows and of the lm-eval tasks.

    Raises:
        TooLittleMemoryError: the tuning does not fit into memory.
    """
    device = local_device()
    on_cpu = device.kind == "cpu"
    stack = (CPU_BF16 if compute_dtype("cpu") == "bfloat16" else CPU_FP32) if on_cpu else GPU
    available = memory_available() if on_cpu else int(device.memory_bytes * 0.95 - CONTEXT_BYTES)
    processes = 1 if on_cpu else device.count
    fit = _fit(recipe, shape, available, stack, processes)
    sharded = fit is None and processes > 1 and recipe.tune.shareable
    if sharded:
        fit = _fit(recipe, shape, available, stack, processes, shards=processes)
    if fit is None:
        raise TooLittleMemoryError(_too_large(recipe, name, shape, available, stack, processes, shared=sharded))
    micro, activations, memory = fit
    row = max(micro, longest_row(recipe))
    moved = processes * offloaded_bytes(shape, row) if activations == "offloaded" else 0
    if moved > memory_available():
        raise UserError(
            f"model {name}: tuning it offloads {moved / GIB:.1f} GiB to this machine's memory, of which "
            f"{memory_available() / GIB:.1f} GiB are free; lower data.max_tokens, or choose a smaller model"
        )
    served = evaluation_memory(
        shape,
        tokens=scored_tokens(micro, longest_row(recipe)),
        in_4_bits=False,
        gpus=processes if sharded else 1,
    )
    speed = _flops_a_second(on_cpu)
    tokens = round(train.tokens * recipe.tune.epochs)
    tuning = tuning_flops(shape, tokens=tokens, recompute=activations != "kept")
    read = reference_tokens(recipe, train) + round(recipe.tune.evaluated_tokens(tokens, held_out.tokens))
    tuning = (tuning + forward_flops(shape, tokens=read)) / speed / processes
    scored = held_out.scored + (GENERAL_TOKENS if recipe.evaluate.general else 0)
    scoring = 3 * forward_flops(shape, tokens=scored) / speed
    minutes = {
        "tune": (STEP_SECONDS["tune"] + tuning) / 60,
        "evaluate": (STEP_SECONDS["evaluate"] + scoring + _generation_seconds(shape, recipe, held_out, on_cpu)) / 60,
        "rollout": STEP_SECONDS["rollout"] / 60 if recipe.serve.enabled else 0.0,
    }
    rung = Rung(
        device=device,
        micro_batch_tokens=micro,
        activations=activations,
        processes=processes,
        sharded=sharded,
        memory_bytes=int(memory),
        available_bytes=available,
        evaluated_in_4_bits=not on_cpu and recipe.tune.method == "qlora" and served > available,
        host_bytes=int(memory) if on_cpu else moved,
        minutes={leg: round(value, 1) for leg, value in minutes.items()},
    )
    return rung, f"{speed / 1e9:.0f} GFLOP/s, from a matrix product timed on this machine"


def _fit(
    recipe: Recipe, shape: Architecture, available: int, stack: Stack, processes: int, shards: int = 1
) -> tuple[int, Activations, float] | None:
    """Return the largest micro-batch that fits, with recomputed activations only if nothing else fits; None if nothing does.

    On a GPU, activations are offloaded to the host if recomputing them is not enough. On CPUs they are there already.
    """
    largest = min(
        max(1, recipe.tune.batch_tokens // processes), CPU_MICRO_BATCH if stack.process_bytes else GPU_MICRO_BATCH
    )
    smallest = min(longest_row(recipe), largest)
    ways: tuple[Activations, ...] = ("kept", "recomputed")
    if not stack.process_bytes:
        ways = (*ways, "offloaded")
    for activations in ways:
        tokens = largest
        while True:
            longest = max(tokens, longest_row(recipe))  # the longest row is a micro-batch by itself
            memory = _memory(recipe, shape, stack, longest, activations, shards)
            if memory <= available:
                return tokens, activations, memory
            if tokens <= smallest:
                break
            tokens = max(smallest, tokens // 2)
    return None


def _memory(
    recipe: Recipe, shape: Architecture, stack: Stack, tokens: int, activations: Activations, shards: int
) -> float:
    return tuning_memory(
        shape,
        method=recipe.tune.method,
        rank=recipe.tune.rank,
        tokens=tokens,
        activations=activations,
        stack=stack,
        shards=shards,
        dora=recipe.tune.dora,
    ).total


def _too_large(
    recipe: Recipe, name: str, shape: Architecture, available: int, stack: Stack, gpus: int, *, shared: bool
) -> str:
    least: Activations = "recomputed" if stack.process_bytes else "offloaded"
    memory = _memory(recipe, shape, stack, longest_row(recipe), least, gpus if shared else 1)
    each = f" on each of {gpus} GPUs" if shared else ""
    if gpus > 1 and not shared:
        remedy = "turn tune.dora and tune.compile off, so that the GPUs share the model"
    else:
        remedy = "set tune.method=qlora" if recipe.tune.method == "lora" else "lower data.max_tokens"
    return (
        f"model {name}: tuning it takes {memory / GIB:.1f} GiB of memory{each}, and {available / GIB:.1f} GiB are free; "
        f"{remedy}, or choose a smaller model"
    )


def _flops_a_second(on_cpu: bool) -> float:
    """Time a matrix product on the device: a table of devices would be outdated, and this takes under a second."""
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


def _generation_seconds(shape: Architecture, recipe: Recipe, held_out: DataSize, on_cpu: bool) -> float:
    """Estimate generation by two models: each token reads all weights, at 10 GB/s on CPUs and 1000 GB/s on a GPU."""
    steps = recipe.evaluate.answers * recipe.evaluate.answer_tokens + held_out.written
    return 2 * steps * (2 * shape.parameters / (1e10 if on_cpu else 1e12) + 0.02)
