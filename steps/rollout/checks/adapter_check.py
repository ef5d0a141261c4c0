"""What an adapter's files say against serving it, found before anything is started: no torch, seconds for hundreds of MB.

PEFT's configuration says what an adapter was meant to be; here its tensors are asked, and the files themselves.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from steps.common.adapter.adapter_files import CONFIG_FILE, LORA_A, LORA_B, LORA_MAGNITUDE, PEFT_PREFIX, WEIGHTS_FILE

READABLE = 0o004  # by a user who is neither the owner nor of its group, as a server's pod may be
# Of each type of safetensors: what numpy reads it as, and the bits of the exponent. All of them set: infinite, or no number.
EXPONENTS = {"F32": ("<u4", 0x7F800000), "BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00)}
BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class AdapterTensor:
    """Where a file of safetensors has a tensor."""

    kind: str
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the file
    end: int


def refusals(
    adapter: Path, base: Path | None = None, *, largest_rank: int | None = None, served_base: str = ""
) -> list[str]:
    """Return why an adapter cannot be served, each in a few words; nothing where it can.

    Args:
        adapter: PEFT's folder.
        base: folder of the base's weights, to compare shapes with.
        largest_rank: of a server that takes adapters as they are (vLLM's --max-lora-rank), which neither knows DoRA nor
            whole modules. None: the adapter is served merged into its base.
        served_base: what such a server calls its base, which vLLM compares with `base_model_name_or_path` letter by letter.
    """
    files = [adapter / CONFIG_FILE, adapter / WEIGHTS_FILE]
    if missing := [file.name for file in files if not file.is_file()]:
        return [f"{missing[0]} is missing"]
    hidden = [path for path in (adapter, *files) if not path.stat().st_mode & READABLE]
    # safetensors writes 0600: https://github.com/huggingface/safetensors/issues/782
    found = [f"{path.name} cannot be read by other users (chmod o+r)" for path in hidden]
    try:
        config: dict[str, Any] = json.loads((adapter / CONFIG_FILE).read_text())
        tensors = tensors_of(adapter / WEIGHTS_FILE)
    except ValueError as error:
        return [*found, str(error)]
    if largest_rank is not None:
        found += _as_it_is(tensors, largest_rank)
    if served_base and config.get("base_model_name_or_path") != served_base:
        found.append(
            f"it was made for the base {config.get('base_model_name_or_path')!r}, and {served_base!r} is served"
        )
    if base:
        found += _against_base(tensors, base, transposed=bool(config.get("fan_in_fan_out")))
    if bad := not_finite(adapter / WEIGHTS_FILE, tensors):
        found.append(f"{bad} has values that are no numbers, or infinite")
    return found


def tensors_of(file: Path) -> dict[str, AdapterTensor]:
    """Return the tensors of a file of safetensors, by name.

    Raises:
        ValueError: it is none, or not whole.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= size - 8:
            raise ValueError(f"{file.name} is no whole file of safetensors")
        try:
            header: dict[str, Any] = json.loads(opened.read(length))
        except ValueError:
            raise ValueError(f"{file.name} is no whole file of safetensors") from None
    start = 8 + length
    found = {
        name: AdapterTensor(one["dtype"], tuple(one["shape"]), *(start + offset for offset in one["data_offsets"]))
        for name, one in header.items()
        if name != "__metadata__"
    }
    if any(one.end > size for one in found.values()):
        raise ValueError(f"{file.name} is no whole file of safetensors")
    return found


def not_finite(file: Path, tensors: dict[str, AdapterTensor]) -> str:
    """Return the name of a tensor that has a value which is no number, or infinite; empty where there is none."""
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


def _as_it_is(tensors: dict[str, AdapterTensor], largest_rank: int) -> Iterable[str]:
    """What a server that multiplies with the adapter's own two matrices does not know."""
    rank = max((one.shape[0] for name, one in tensors.items() if name.endswith(LORA_A)), default=0)
    if rank > largest_rank:
        yield f"its rank {rank} is above the server's {largest_rank}"
    if any(name.endswith(LORA_MAGNITUDE) for name in tensors):
        yield "it is a DoRA, which is served merged alone"
    if whole := [name for name in tensors if not name.endswith((LORA_A, LORA_B, LORA_MAGNITUDE))]:
        yield f"it has tensors beside those of LoRA: {whole[0]}"


def _against_base(tensors: dict[str, AdapterTensor], base: Path, *, transposed: bool) -> Iterable[str]:
    """The first layer that the base has not, or has in another shape."""
    there = {name: one for file in sorted(base.glob("*.safetensors")) for name, one in tensors_of(file).items()}
    for name in (one.removesuffix(LORA_A) for one in tensors if one.endswith(LORA_A)):
        layer = name.removeprefix(PEFT_PREFIX)
        weight = there.get(f"{layer}.weight")
        if weight is None:
            yield f"it changes {layer}, which the base has not"
            return
        out, into = reversed(weight.shape) if transposed else weight.shape
        up = tensors.get(name + LORA_B)
        if tensors[name + LORA_A].shape[1:] != (into,) or up is None or up.shape[:1] != (out,):
            yield f"its {layer} is of another shape than the base's {list(weight.shape)}"
            return
