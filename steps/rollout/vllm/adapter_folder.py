"""The folders from which vLLM loads adapters: one per version, never changed, with the version's digest in its name.

For an unknown model's name, vLLM's filesystem resolver looks in VLLM_LORA_RESOLVER_CACHE_DIR. It accepts the folder of
that name if base_model_name_or_path equals the path that the server was started with (vllm/plugins/lora_resolvers).
"""

import json
import shutil
from pathlib import Path
from typing import Any

from steps.common.adapter.adapter_files import CONFIG_FILE, WEIGHTS_FILE, adapter_sha256
from steps.common.adapter.vllm_limits import vllm_refusals
from steps.common.runtime.errors import RefusedError, UserError
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, exclusive_lock
from steps.rollout.checks.adapter_check import READABLE

BASES = "/models"  # folder of the bases in a vLLM pod
ADAPTERS = "/adapters"  # folder of the adapters in a vLLM pod


def folder_of_adapters() -> Path:
    """Return the folder on the runs volume from which vLLM loads adapters."""
    return volumes.runs() / "adapters"


def base_path(digest: str) -> str:
    """Return the path of a base model in a vLLM pod."""
    return f"{BASES}/{digest[:16]}"


def config_of(adapter: Path) -> dict[str, Any]:
    """Return PEFT's configuration of an adapter."""
    found: dict[str, Any] = json.loads((adapter / CONFIG_FILE).read_text())
    return found


def check(adapter: Path, name: str, largest_rank: int) -> None:
    """Check that vLLM can load an adapter.

    Raises:
        UserError: it cannot; the text has all reasons.
    """
    if why := vllm_refusals(config_of(adapter), largest_rank):
        raise UserError(f"{name}: vLLM cannot serve this adapter: {'; '.join(why)}; set serve.form=merged")


def published_adapter(adapter: Path, name: str, base: str, *, into: Path | None = None) -> Path:
    """Return the folder of an adapter for vLLM; create it if it does not exist.

    Args:
        adapter: PEFT's folder.
        name: vLLM's name of the version.
        base: the path of the base with which vLLM was started.
        into: folder of the adapters; by default the one on the runs volume.

    Raises:
        RefusedError: a folder of that name holds another adapter, or other users cannot read it.
    """
    folder = (into or folder_of_adapters()) / name
    config = {**config_of(adapter), "base_model_name_or_path": base}
    line = WaitingLine()
    with exclusive_lock(folder, on_wait=lambda: line.report(f"another process to write {name}")):
        if not folder.exists():
            with build_folder(folder) as partial:
                shutil.copyfile(adapter / WEIGHTS_FILE, partial / WEIGHTS_FILE)
                (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    if config_of(folder) != config or adapter_sha256(folder) != adapter_sha256(adapter):
        raise RefusedError(f"{folder}: holds another adapter than its name says; delete the folder and roll out again")
    for path in (folder, folder / CONFIG_FILE, folder / WEIGHTS_FILE):
        if not path.stat().st_mode & READABLE:
            raise RefusedError(f"{path}: is not readable by other users, such as vLLM's; run chmod -R o+rX {folder}")
    return folder
