"""What is checked before anything is started: a server that cannot work is refused here, in a second and for nothing."""

import os
from pathlib import Path

from steps.common.adapter.adapter_files import BASE_FILE, CONFIG_FILE, WEIGHTS_FILE, read_adapter_base
from steps.common.handover.resolved import Resolved
from steps.common.runtime.errors import RefusedError
from steps.rollout.checks.adapter_check import refusals, tensors_of


def check_adapter(resolved: Resolved, adapter: Path, base: Path) -> None:
    """Refuse an adapter that was learnt on another base, does not suit its weights, or that the server could not read.

    Args:
        resolved: what is to be served, and how.
        adapter: PEFT's folder.
        base: folder of the base's weights.

    Raises:
        RefusedError: with the reasons.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE, BASE_FILE):
        _readable(adapter / name)
    learnt_on = read_adapter_base(adapter)
    if learnt_on.digest != resolved.model.digest:
        raise RefusedError(
            f"the adapter was learnt on {learnt_on.uri} ({learnt_on.digest[:12]}), and {resolved.model.uri} "
            f"({resolved.model.digest[:12]}) was to be served with it"
        )
    beside = resolved.serving_plan.form == "adapter"
    if why := refusals(adapter, base, largest_rank=resolved.serving_plan.rank if beside else None):
        raise RefusedError(f"the adapter cannot be served: {'; '.join(why)}")


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
        try:
            tensors_of(shard)
        except ValueError as error:
            raise RefusedError(f"{folder}: {error}") from None
    return sum(path.stat().st_size for path in shards)


def _readable(path: Path) -> None:
    if not path.is_file():
        raise RefusedError(f"{path} is not there")
    # The server runs under this process's own user, on one machine and in a cluster.
    if not os.access(path, os.R_OK):
        raise RefusedError(f"{path} cannot be read by the server: its mode is {path.stat().st_mode & 0o777:o}")
