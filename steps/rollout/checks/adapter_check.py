"""Checks whether an adapter can be served: reads its files without torch, at hundreds of MB a second or faster.

The tensors are what counts. PEFT's configuration only says what the adapter was meant to be.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from steps.common.adapter.adapter_files import CONFIG_FILE, LORA_A, LORA_B, LORA_MAGNITUDE, PEFT_PREFIX, WEIGHTS_FILE

READABLE = 0o004  # by other users, such as the one that a server's pod runs as
# By safetensors' type: numpy's type, and the mask of the exponent. All exponent bits set means infinity or NaN.
EXPONENTS = {"F32": ("<u4", 0x7F800000), "BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00)}
BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class AdapterTensor:
    """Position of a tensor in a safetensors file."""

    kind: str
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the file
    end: int


def refusals(
    adapter: Path, base: Path | None = None, *, largest_rank: int | None = None, served_base: str = ""
) -> list[str]:
    """Return the reasons why an adapter cannot be served; none if it can.

    Args:
        adapter: PEFT's folder.
        base: folder of the base's weights, to compare shapes with.
        largest_rank: --max-lora-rank of a vLLM that loads the adapter as it is; it supports neither DoRA nor
            modules_to_save. None: the adapter is merged into its base.
        served_base: name of the base in that vLLM, which has to equal the adapter's `base_model_name_or_path`.
    """
    files = [adapter / CONFIG_FILE, adapter / WEIGHTS_FILE]
    if missing := [file.name for file in files if not file.is_file()]:
        return [f"{missing[0]} is missing"]
    hidden = [path for path in (adapter, *files) if not path.stat().st_mode & READABLE]
    # safetensors writes 0600: https://github.com/huggingface/safetensors/issues/782
    found = [f"{path.name} is not readable by other users (chmod o+r)" for path in hidden]
    try:
        config: dict[str, Any] = json.loads((adapter / CONFIG_FILE).read_text())
        tensors = read_tensors(adapter / WEIGHTS_FILE)
    except ValueError as error:
        return [*found, str(error)]
    if largest_rank is not None:
        found += _unsupported_unmerged(tensors, largest_rank)
    if served_base and config.get("base_model_name_or_path") != served_base:
        found.append(
            f"it was made for the base {config.get('base_model_name_or_path')!r}, but {served_base!r} is served"
        )
    if base:
        found += _base_mismatch(tensors, base, transposed=bool(config.get("fan_in_fan_out")))
    if bad := not_finite(adapter / WEIGHTS_FILE, tensors):
        found.append(f"{bad} contains NaN or infinite values")
    return found


def read_tensors(file: Path) -> dict[str, AdapterTensor]:
    """Return the tensors of a safetensors file, by name.

    Raises:
        ValueError: the file is truncated or not a safetensors file.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= size - 8:
            raise ValueError(f"{file.name} is not a complete safetensors file")
        try:
            header: dict[str, Any] = json.loads(opened.read(length))
        except ValueError:
            raise ValueError(f"{file.name} is not a complete safetensors file") from None
    start = 8 + length
    found = {
        name: AdapterTensor(one["dtype"], tuple(one["shape"]), *(start + offset for offset in one["data_offsets"]))
        for name, one in header.items()
        if name != "__metadata__"
    }
    if any(one.end > size for one in found.values()):
        raise ValueError(f"{file.name} is not a complete safetensors file")
    return found


def not_finite(file: Path, tensors: dict[str, AdapterTensor]) -> str:
    """Return the name of a tensor that contains NaN or infinity; empty if there is none."""
    for name, one in tensors.items():
        if one.kind not in EXPONENTS or one.begin == one.end:
            continue
        kind, exponent = EXPONENTS[one.kind]
        count = (one.end - one.begin) // numpy.dtype(kind).itemsize
        values = numpy.memmap(file, dtype=kind, mode="r", offset=one.begin, shape=(count,))
        for begin in range(0, count, BLOCK_VALUES):
            if bool(((values[begin : begin + BLOCK_VALUES] & exponent) == exponent).any()):
                return name
    return ""


def _unsupported_unmerged(tensors: dict[str, AdapterTensor], largest_rank: int) -> Iterable[str]:
    """Yield what vLLM cannot serve unmerged."""
    rank = max((one.shape[0] for name, one in tensors.items() if name.endswith(LORA_A)), default=0)
    if rank > largest_rank:
        yield f"its rank {rank} exceeds the server's maximum of {largest_rank}"
    if any(name.endswith(LORA_MAGNITUDE) for name in tensors):
        yield "it is a DoRA adapter, which can only be served merged"
    if whole := [name for name in tensors if not name.endswith((LORA_A, LORA_B, LORA_MAGNITUDE))]:
        yield f"it has tensors other than LoRA's: {whole[0]}"


def _base_mismatch(tensors: dict[str, AdapterTensor], base: Path, *, transposed: bool) -> Iterable[str]:
    """Yield the first layer that the base does not have, or has in another shape."""
    base_tensors = {
        name: one for file in sorted(base.glob("*.safetensors")) for name, one in read_tensors(file).items()
    }
    for name in (one.removesuffix(LORA_A) for one in tensors if one.endswith(LORA_A)):
        layer = name.removeprefix(PEFT_PREFIX)
        weight = base_tensors.get(f"{layer}.weight")
        if weight is None:
            yield f"it changes {layer}, which the base does not have"
            return
        out, into = reversed(weight.shape) if transposed else weight.shape
        up = tensors.get(name + LORA_B)
        if tensors[name + LORA_A].shape[1:] != (into,) or up is None or up.shape[:1] != (out,):
            yield f"its {layer} does not fit the base's shape {list(weight.shape)}"
            return
