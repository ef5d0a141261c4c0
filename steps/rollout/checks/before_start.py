"""Checks before a server is started, which refuse within a second what could not work."""

import os
from pathlib import Path

from steps.common.adapter.adapter_files import BASE_FILE, CONFIG_FILE, WEIGHTS_FILE, read_adapter_base
from steps.common.handover.resolved import Resolved
from steps.common.runtime.errors import RefusedError
from steps.rollout.checks.adapter_check import read_tensors, refusals


def check_adapter(resolved: Resolved, adapter: Path, base: Path) -> None:
    """Check that an adapter was trained on this base, fits its weights and can be read by the server.

    Args:
        resolved: the resolved recipe.
        adapter: PEFT's folder.
        base: folder of the base's weights.

    Raises:
        RefusedError: it does not; the text has all reasons.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE, BASE_FILE):
        _readable(adapter / name)
    learnt_on = read_adapter_base(adapter)
    if learnt_on.digest != resolved.model.digest:
        raise RefusedError(
            f"the adapter was trained on {learnt_on.uri} ({learnt_on.digest[:12]}), but the recipe serves "
            f"{resolved.model.uri} ({resolved.model.digest[:12]})"
        )
    beside = resolved.serving_plan.form == "adapter"
    if why := refusals(adapter, base, largest_rank=resolved.serving_plan.rank if beside else None):
        raise RefusedError(f"the adapter cannot be served: {'; '.join(why)}")


def check_model(folder: Path) -> int:
    """Check that the server can read a model, and return the size of its weights in bytes.

    Raises:
        RefusedError: it cannot.
    """
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise RefusedError(f"{folder} has no weights")
    for path in (folder / "config.json", *shards):
        _readable(path)
    for shard in shards:
        try:
            read_tensors(shard)
        except ValueError as error:
            raise RefusedError(f"{folder}: {error}") from None
    return sum(path.stat().st_size for path in shards)


def _readable(path: Path) -> None:
    if not path.is_file():
        raise RefusedError(f"{path} does not exist")
    # The server has the user id of this process, on one machine and in a cluster.
    if not os.access(path, os.R_OK):
        raise RefusedError(f"{path} is not readable by the server: its mode is {path.stat().st_mode & 0o777:o}")
