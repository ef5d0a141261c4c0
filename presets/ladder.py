"""Predicts whether a run fits each instance type, how long it takes and what it costs, and in which order to try the types.

Pure arithmetic: a few milliseconds for the hundred types of a cloud. `ASSUMPTIONS` states what it assumes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from presets.architecture import Architecture
from presets.flops import forward_flops, tuning_flops
from presets.gpu_preset import Capacity, GpuPreset, speeds
from presets.memory import (
    CONTEXT_BYTES,
    GIB,
    NF4_STORED,
    Activations,
    Method,
    evaluation_memory,
    offloaded_bytes,
    scored_tokens,
    tuning_memory,
)

EFFICIENCY = 0.4  # share of a GPU's peak that tuning reaches; 0.5 to 0.66 have been published for packed rows
LENT_BYTES = 10e9  # per second, between GPUs of a node without NVLink; assumes no overlap with computation
DEALT_OUT = 0.9  # share of GPU memory that transformers gives to the layers of a quantised model on several GPUs
HOST_LINK_BYTES = 20e9  # per second, between GPU and host, out of PCIe 4 x16's 32e9; offloaded inputs travel both ways
DEQUANTISED_BYTES = 4.5  # per parameter and pass: NF4 read, bf16 written, bf16 read by the matrix product
PROVISION_MINUTES = 5.0  # until the node is ready, with its device plugin and the image of 7 GB
DOWNLOAD_BYTES = 136e6  # per second, from a hub; KAITO's authors report it for one pod
VOLUME_BYTES = 300e6  # per second, from a volume that many nodes mount
STEP_SECONDS = 40.0  # pod start, imports and CUDA, for each of tune and evaluate
LARGEST_MICRO_BATCH = 16384
HOST_BYTES = 10 * GIB  # node memory: torch, and two weight files of 5 GB while an adapter is merged
HOST_SHARE = 0.85  # share of a node's memory that pods can request
SPEED_UNKNOWN = 100.0  # TFLOP/s assumed for an unknown GPU
ASSUMPTIONS = (
    f"{EFFICIENCY:.0%} of a GPU's peak in bf16",
    f"a node in {PROVISION_MINUTES:g} min",
    f"downloads at {DOWNLOAD_BYTES / 1e6:.0f} MB/s and a volume of {VOLUME_BYTES / 1e6:.0f} MB/s",
)

Layout = Literal["one", "parallel", "sharded"]


@dataclass(frozen=True)
class Workload:
    """The work of a run, independent of the hardware."""

    shape: Architecture
    method: Method
    rank: int
    longest_row: int  # tokens
    batch_tokens: int  # per optimizer step
    train_tokens: int  # in all epochs
    held_out_tokens: int
    answers: int
    answer_tokens: int
    weight_bytes: int  # to download; 0 if they are stored already
    reference_tokens: int = 0  # of pairs: the base reads each once, as the reference of the preference loss
    evaluated_tokens: int = 0  # held-out tokens read during training
    written_tokens: int = 0  # answers to lm-eval tasks
    dora: bool = False
    shareable: bool = True  # a base that fits on no GPU may be sharded across those of a node


@dataclass(frozen=True)
class Setup:
    """How the tuning would run: the fastest configuration that fits."""

    layout: Layout
    gpus: int
    micro_batch_tokens: int  # per GPU
    activations: Activations
    memory_bytes: float  # per GPU, predicted
    seconds: float  # of the training steps
    evaluated_in_4_bits: bool = False  # if the model in bf16, as served, is too large for a GPU


@dataclass(frozen=True, eq=False)
class Candidate:
    """A run on one node of an instance type."""

    preset: GpuPreset
    capacity: Capacity
    price: float | None  # US dollars per hour
    available_bytes: float  # per GPU
    setup: Setup | None  # None: it does not fit
    why_not: str  # empty if it fits
    minutes: dict[str, float] = field(default_factory=dict)
    sold_out: bool = False

    @cached_property
    def billed_minutes(self) -> float:
        """Minutes that the node is paid for: all but the download, which finishes before the node is bought."""
        return sum(minutes for leg, minutes in self.minutes.items() if leg != "pull")

    @property
    def total_minutes(self) -> float:
        """Minutes from the start to the verdict. The node is bought when the download is nearly complete."""
        pull, provision = self.minutes["pull"], self.minutes["provision"]
        return max(pull, provision) + self.billed_minutes - provision

    @property
    def cost(self) -> float | None:
        """US dollars for the whole run; None if the price is unknown."""
        return None if self.price is None else self.price * self.billed_minutes / 60

    @property
    def price_at_most(self) -> float | None:
        """US dollars per hour: the spot price if known, else the on-demand price."""
        return self.preset.on_demand if self.price is None else self.price

    @property
    def cost_at_most(self) -> float | None:
        """US dollars for the whole run at `price_at_most`."""
        return None if self.price_at_most is None else self.price_at_most * self.billed_minutes / 60

    @property
    def headroom(self) -> float:
        """Share of the memory that stays free."""
        return 1 - self.setup.memory_bytes / self.available_bytes if self.setup else 0.0

    @property
    def bottleneck(self) -> str:
        """The leg that takes longest."""
        return max(self.minutes, key=lambda leg: self.minutes[leg])


def available_bytes(preset: GpuPreset) -> float:
    """Return the bytes of a GPU that torch's allocator may reserve: the prediction is within 5 %."""
    return 0.95 * preset.gpu_bytes - CONTEXT_BYTES


def candidates(job: Workload, presets: Iterable[GpuPreset], capacities: Iterable[Capacity]) -> list[Candidate]:
    """Return a candidate for each instance type, capacity type and layout, the cheapest that fits first.

    Candidates without a price follow those with one; those that do not fit come last.
    """
    found: list[Candidate] = []
    known: dict[tuple[str, int, int, float | None], list[Setup]] = {}
    for preset in presets:
        key = (preset.gpu, preset.gpu_mib, preset.gpus, preset.memory_gib)
        if key not in known:
            known[key] = setups(job, preset)
        for capacity in capacities:
            found += _of(job, preset, capacity, [] if preset.why_unfit else known[key])
    return sorted(found, key=_order)


def _of(job: Workload, preset: GpuPreset, capacity: Capacity, ways: list[Setup]) -> list[Candidate]:
    price = preset.spot if capacity == "spot" else preset.on_demand
    available = available_bytes(preset)
    if ways and capacity not in preset.sold_out:
        return [
            Candidate(preset, capacity, price, available, setup, "", _minutes(job, preset, setup)) for setup in ways
        ]
    sold_out = f"is sold out {'on spot' if capacity == 'spot' else 'on demand'} at the moment" if ways else ""
    why = preset.why_unfit or sold_out or _too_small(job, preset)
    return [Candidate(preset, capacity, price, available, None, why, sold_out=bool(sold_out and not preset.why_unfit))]


def _too_small(job: Workload, preset: GpuPreset) -> str:
    """Return which memory is too small, the GPU's or the node's, and by how much."""
    available = max(0.0, available_bytes(preset))
    layout: Layout = "sharded" if preset.gpus > 1 and job.shareable else "one"
    gpus = preset.gpus if layout == "sharded" else 1
    ways = [setup for setup in _ways(job, preset, layout, gpus) if setup.memory_bytes <= available]
    if not ways or not preset.memory_gib:
        each = f"each of {gpus} GPUs" if gpus > 1 else "a GPU"
        return f"it takes {least_bytes(job, gpus) / GIB:.1f} GiB on {each}, which has {available / GIB:.1f} GiB"
    least, there = min(host_bytes(job, setup) for setup in ways), HOST_SHARE * preset.memory_gib * GIB
    if least <= there:
        return f"its evaluation in bf16 takes more GPU memory than the {available / GIB:.1f} GiB available"
    return f"it takes {least / GIB:.1f} GiB of node memory, of which pods can use {there / GIB:.1f} GiB"


def _order(one: Candidate) -> tuple[bool, bool, float, float, str]:
    cost = one.cost_at_most if one.setup else None
    minutes = one.total_minutes if one.setup else 0.0
    return one.setup is None, cost is None, cost or 0.0, minutes, one.preset.instance_type


def setups(job: Workload, preset: GpuPreset) -> list[Setup]:
    """Return how the tuning would run on the type: on one GPU and in parallel on all, or sharded if it does not fit on one."""
    one = fastest(job, preset, "one", 1)
    if preset.gpus == 1:
        return [one] if one else []
    if one is None:
        spread = fastest(job, preset, "sharded", preset.gpus) if job.shareable else None
        return [spread] if spread else []
    side_by_side = fastest(job, preset, "parallel", preset.gpus)
    return [one, side_by_side] if side_by_side else [one]


def fastest(job: Workload, preset: GpuPreset, layout: Layout, gpus: int) -> Setup | None:
    """Return the fastest configuration in which tuning and evaluation fit; None if there is none."""
    available = available_bytes(preset)
    found = [setup for setup in _ways(job, preset, layout, gpus) if setup.memory_bytes <= available]
    if preset.memory_gib:
        found = [setup for setup in found if host_bytes(job, setup) <= HOST_SHARE * preset.memory_gib * GIB]
    evaluated = [
        replace(setup, evaluated_in_4_bits=way) for setup in found for way in _scored_in(job, setup, available)
    ]
    return min(evaluated, key=lambda setup: (setup.seconds, setup.memory_bytes), default=None)


def _scored_in(job: Workload, setup: Setup, available: float) -> list[bool]:
    """Return whether the evaluation is in 4 bits: no if 16 bits, as served, fit. Empty if neither fits."""
    tokens = scored_tokens(setup.micro_batch_tokens, job.longest_row)
    shared = setup.layout == "sharded"
    for in_4_bits in (False, True) if job.method == "qlora" else (False,):
        room = DEALT_OUT * available if shared and in_4_bits else available
        gpus = setup.gpus if shared else 1
        if evaluation_memory(job.shape, tokens=tokens, in_4_bits=in_4_bits, gpus=gpus) <= room:
            return [in_4_bits]
    return []


def host_bytes(job: Workload, setup: Setup) -> int:
    """Return the bytes of node memory that the pods request."""
    moved = max(setup.micro_batch_tokens, job.longest_row) if setup.activations == "offloaded" else 0
    return HOST_BYTES + setup.gpus * offloaded_bytes(job.shape, moved)


def _ways(job: Workload, preset: GpuPreset, layout: Layout, gpus: int) -> Iterable[Setup]:
    ways: tuple[Activations, ...] = ("kept", "recomputed", "offloaded")
    for activations in ways:
        for tokens in _micro_batches(job, gpus):
            memory = tuning_memory(
                job.shape,
                method=job.method,
                rank=job.rank,
                tokens=max(tokens, job.longest_row),  # the longest row is a micro-batch by itself
                activations=activations,
                shards=gpus if layout == "sharded" else 1,
                dora=job.dora,
            )
            seconds = _seconds(job, preset, layout, gpus, tokens, activations)
            yield Setup(layout, gpus, tokens, activations, memory.total, seconds)


def _micro_batches(job: Workload, gpus: int) -> list[int]:
    """Return the sizes to try: from one optimizer step per GPU down to the longest row, halved each time."""
    tokens = min(LARGEST_MICRO_BATCH, max(1, job.batch_tokens // gpus))
    smallest = min(job.longest_row, tokens)
    found = []
    while tokens > smallest:
        found.append(tokens)
        tokens //= 2
    return [*found, smallest]


def _seconds(
    job: Workload, preset: GpuPreset, layout: Layout, gpus: int, tokens: int, activations: Activations
) -> float:
    speed = speeds().get(preset.gpu)
    flops_a_second = (speed.tflops if speed else SPEED_UNKNOWN) * 1e12
    recompute = activations != "kept"
    work = tuning_flops(job.shape, tokens=tokens, recompute=recompute) / (flops_a_second * EFFICIENCY)
    read = forward_flops(job.shape, tokens=tokens) / (flops_a_second * EFFICIENCY)
    if layout == "sharded":
        lent = (NF4_STORED if job.method == "qlora" else 2.0) * job.shape.linear_parameters / LENT_BYTES
        work += 2 * lent  # forward and backward
        read += lent
    if job.method == "qlora" and speed:
        dequantised = DEQUANTISED_BYTES * job.shape.linear_parameters / (speed.memory_gbps * 1e9)
        work += (3 if recompute else 2) * dequantised
        read += dequantised
    if activations == "offloaded":
        work += 2 * offloaded_bytes(job.shape, tokens) / HOST_LINK_BYTES
    read_tokens = job.reference_tokens + job.evaluated_tokens
    return work * math.ceil(job.train_tokens / (tokens * gpus)) + read * math.ceil(read_tokens / (tokens * gpus))


def _minutes(job: Workload, preset: GpuPreset, setup: Setup) -> dict[str, float]:
    speed = speeds().get(preset.gpu)
    tflops, gbps = (speed.tflops, speed.memory_gbps) if speed else (SPEED_UNKNOWN, 3 * SPEED_UNKNOWN)
    model = 2.0 * job.shape.parameters
    scored = 2 * forward_flops(job.shape, tokens=job.held_out_tokens) / (tflops * 1e12 * EFFICIENCY)
    # Generating a token reads all weights once, at half the bandwidth; both base and candidate generate.
    written = 2 * (job.answers * job.answer_tokens + job.written_tokens) * model / (gbps * 1e9 * 0.5)
    loads = model / VOLUME_BYTES
    return {
        "provision": PROVISION_MINUTES,
        "pull": job.weight_bytes / DOWNLOAD_BYTES / 60,
        "load": 3 * loads / 60,  # once to tune, twice to evaluate
        "tune": (STEP_SECONDS + setup.seconds) / 60,
        "evaluate": (STEP_SECONDS + scored + written) / 60,
    }


def least_bytes(job: Workload, shards: int = 1) -> float:
    """Return the least GPU memory that tuning needs: the smallest micro-batch, and everything offloaded."""
    found = tuning_memory(
        job.shape,
        method=job.method,
        rank=job.rank,
        tokens=job.longest_row,
        activations="offloaded",
        shards=shards,
        dora=job.dora,
    )
    return found.total


def what_would_fit(job: Workload, presets: list[GpuPreset]) -> str:
    """Return what to change so that a tuning that fits no type fits one, in words."""
    usable = [preset for preset in presets if not preset.why_unfit]
    if not usable:
        return "choose an instance type with an NVIDIA GPU that supports bf16"

    def fits(**changes: Any) -> bool:
        return any(setups(replace(job, **changes), preset) for preset in usable)

    if not job.shareable and fits(shareable=True, dora=False):
        return "turn tune.dora and tune.compile off, so that the GPUs of a node can share the model"
    if job.method != "qlora" and fits(method="qlora"):
        return "set tune.method=qlora"
    rows, sides = job.longest_row, 2 if job.reference_tokens else 1
    while rows > 64:
        rows //= 2
        if fits(longest_row=rows):
            return f"set data.max_tokens={rows // sides}"
    return "choose a smaller model, or instance types with more GPU memory"
