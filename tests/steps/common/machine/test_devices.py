"""The dtype in which this machine's matrix products are fast, and the cores that this process may use."""

import os
from pathlib import Path

import pytest

from steps.common.machine import devices
from steps.common.machine.devices import compute_dtype, has_fast_bf16


def test_on_this_processor_torch_agrees() -> None:
    import torch

    assert compute_dtype("cpu") == ("bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32")


@pytest.mark.parametrize(
    ("restriction", "has_avx512"), [("AVX2", False), ("AVX2_VNNI", False), ("AVX512_CORE", True), ("DEFAULT", True)]
)
def test_bf16_is_not_chosen_where_onednn_is_restricted_to_avx2(
    restriction: str, has_avx512: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_processor_flags", lambda: {"avx512bw", "avx512vl", "avx512dq"})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", restriction)
    assert compute_dtype("cpu") == ("bfloat16" if has_avx512 else "float32")


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fma avx avx2 avx512f avx512dq avx512bw avx512vl", True),
        ("fma avx avx2", False),
        ("fma avx avx2 avx512f", False),
        ("fp asimd bf16 i8mm", True),
        ("fp asimd", False),
        ("", False),
    ],
)
def test_bf16_is_fast_with_avx512_or_arms_bf16_extension(flags: str, fast: bool) -> None:
    assert has_fast_bf16(set(flags.split())) is fast


def test_a_gpu_computes_in_bf16() -> None:
    assert compute_dtype("cuda") == "bfloat16"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000\n", 64),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("9900000 100000", 64),
        (None, 64),
    ],
)
def test_a_container_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(devices, "CPU_LIMIT", tmp_path / "cpu.max")
    if limit:
        (tmp_path / "cpu.max").write_text(limit)
    assert devices.cores() == expected
