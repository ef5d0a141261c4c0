"""Activations are offloaded to the host if nothing else fits, and the host's memory is counted."""

import pytest

from presets.gpu_preset import GpuPreset, gpu_presets
from presets.ladder import HOST_BYTES, Workload, candidates, fastest, host_bytes
from presets.memory import CPU_FP32, GIB, offloaded_bytes, tuning_memory
from presets.model_preset import find
from recipes.recipe import Recipe
from steps.common.handover.resolved import Device
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import DataSize
from steps.plan.quote import this_machine

LLAMA = find("llama-3.1-8b-instruct")[0].architecture
ROWS = 8192


def needed(activations: str) -> float:
    return tuning_memory(LLAMA, method="qlora", rank=16, tokens=ROWS, activations=activations).total  # type: ignore[arg-type]


def between() -> int:
    """A GPU memory, in MiB, in which only offloaded activations fit."""
    room = (needed("offloaded") + needed("recomputed")) / 2
    return int((room + 0.7 * GIB) / 0.95) >> 20


def recipe() -> Recipe:
    data = {"train": "x.jsonl", "max_tokens": ROWS}
    return Recipe.model_validate({"name": "x", "data": data, "tune": {"batch_tokens": 2 * ROWS}})


def job() -> Workload:
    return Workload(
        shape=LLAMA,
        method="qlora",
        rank=16,
        longest_row=ROWS,
        batch_tokens=2 * ROWS,
        train_tokens=1_000_000,
        held_out_tokens=1000,
        answers=0,
        answer_tokens=1,
        weight_bytes=0,
    )


def tight(**changes: object) -> GpuPreset:
    return next(one for one in gpu_presets("aws") if one.instance_type == "g6.xlarge").model_copy(
        update={"gpu_mib": between(), **changes}
    )


def test_the_ladder_offloads_if_only_that_fits_and_counts_the_hosts_memory() -> None:
    assert needed("offloaded") < needed("recomputed") < needed("kept")
    found = fastest(job(), tight(memory_gib=64.0), "one", 1)
    assert found
    assert found.activations == "offloaded"
    assert host_bytes(job(), found) == HOST_BYTES + offloaded_bytes(LLAMA, ROWS)
    roomy = fastest(job(), tight(gpu_mib=80 * 1024, memory_gib=64.0), "one", 1)
    assert roomy
    assert roomy.activations != "offloaded"
    assert host_bytes(job(), roomy) == HOST_BYTES


def test_a_host_too_small_for_offloaded_activations_is_not_chosen() -> None:
    (one,) = candidates(job(), [tight(memory_gib=12.0)], ["on-demand"])
    assert not one.setup
    assert "of node memory" in one.why_not


def test_this_machine_offloads_if_only_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(kind="cuda", name="GPU", count=1, memory_bytes=between() << 20)
    monkeypatch.setattr(this_machine, "local_device", lambda: device)
    monkeypatch.setattr(this_machine, "_flops_a_second", lambda _: 1e14)
    monkeypatch.setattr(this_machine, "memory_available", lambda: 8 * GIB)
    size = DataSize(100, 100_000)
    found, _ = this_machine.this_machine(recipe(), "llama", LLAMA, size, size)
    assert (found.activations, found.host_bytes) == ("offloaded", offloaded_bytes(LLAMA, ROWS))
    assert found.memory_bytes <= found.available_bytes
    monkeypatch.setattr(this_machine, "memory_available", lambda: 1 * GIB)
    with pytest.raises(UserError, match=r"offloads 2\.0 GiB to this machine's memory, of which 1\.0 GiB are free"):
        this_machine.this_machine(recipe(), "llama", LLAMA, size, size)


def test_on_a_cpu_nothing_is_offloaded() -> None:
    room = int(
        tuning_memory(LLAMA, method="qlora", rank=16, tokens=ROWS, activations="recomputed", stack=CPU_FP32).total
    )
    fit = this_machine._fit(recipe(), LLAMA, room, CPU_FP32, 1)
    assert fit
    assert fit[1] == "recomputed"
    assert this_machine._fit(recipe(), LLAMA, room - GIB, CPU_FP32, 1) is None
