"""What is checked before anything is started: a server that cannot work is refused here, in a second and for nothing."""

import os
from pathlib import Path

from steps.common.adapters import BASE, CONFIG, WEIGHTS, read_base
from steps.common.errors import RefusedError
from steps.common.resolved import Resolved

LENGTH_BYTES = 8  # that a safetensors file begins with: its header's


def check_adapter(resolved: Resolved, adapter: Path) -> None:
    """Refuse an adapter that was learnt on another base, or that the server could not read.

    Raises:
        RefusedError: with the reason.
    """
    for name in (CONFIG, WEIGHTS, BASE):
        _readable(adapter / name)
    learnt_on = read_base(adapter)
    if learnt_on.digest != resolved.model.digest:
        raise RefusedError(
            f"the adapter was learnt on {learnt_on.uri} ({learnt_on.digest[:12]}), and {resolved.model.uri} "
            f"({resolved.model.digest[:12]}) was to be served with it"
        )


def check_model(folder: Path) -> int:
    """Refuse a merged model that the server could not read; return its bytes.

    Raises:
        RefusedError: with the reason.
    """
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise RefusedError(f"{folder} has no weights")
    for path in (folder / "config.json", *shards):
        _readable(path)
    for shard in shards:
        _whole(shard)
    return sum(path.stat().st_size for path in shards)


def _readable(path: Path) -> None:
    if not path.is_file():
        raise RefusedError(f"{path} is not there")
    # The server runs under this process's own user, on one machine and in a cluster.
    if not os.access(path, os.R_OK):
        raise RefusedError(f"{path} cannot be read by the server: its mode is {path.stat().st_mode & 0o777:o}")


def _whole(shard: Path) -> None:
    """A safetensors file says in its header where its last tensor ends (https://huggingface.co/docs/safetensors)."""
    import json

    with shard.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        try:
            header = json.loads(file.read(length))
            end = max(one["data_offsets"][1] for name, one in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, OverflowError, MemoryError):
            raise RefusedError(f"{shard} is no safetensors file") from None
    if shard.stat().st_size != LENGTH_BYTES + length + end:
        raise RefusedError(f"{shard} is not whole: {shard.stat().st_size} bytes, not {LENGTH_BYTES + length + end}")
