"""The folders in which vLLM finds adapters: one a version, never changed, named after what is in it.

vLLM's filesystem resolver looks for an unknown model's name in VLLM_LORA_RESOLVER_CACHE_DIR, and takes the folder if
its base_model_name_or_path is the very path that the server was started with (vllm/plugins/lora_resolvers).
"""

import json
import shutil
from pathlib import Path
from typing import Any

from steps.common.adapter.adapter_files import CONFIG_FILE, WEIGHTS_FILE, adapter_sha256
from steps.common.adapter.vllm_limits import vllm_refusals
from steps.common.runtime.errors import RefusedError, UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, exclusive_lock
from steps.rollout.checks.adapter_check import READABLE

BASES = "/models"  # where a vLLM pod has its base
ADAPTERS = "/adapters"  # and the folders of adapters


def folder_of_adapters() -> Path:
    """Return the folder on the runs volume that vLLM looks into."""
    return volumes.runs() / "adapters"


def base_path(digest: str) -> str:
    """Return where a vLLM pod has the base model of that digest."""
    return f"{BASES}/{digest[:16]}"


def adapter_name(model: str, version: int, digest: str) -> str:
    """Return the name to which vLLM answers with a version.

    Its weights are part of it: version numbers begin anew with a new registry, and vLLM keeps an adapter by its name.
    """
    return f"{model}-v{version}-{digest[:8]}"


def config_of(adapter: Path) -> dict[str, Any]:
    """Return PEFT's configuration of an adapter."""
    found: dict[str, Any] = json.loads((adapter / CONFIG_FILE).read_text())
    return found


def check(adapter: Path, name: str, largest_rank: int) -> None:
    """Refuse what vLLM would not load.

    Raises:
        UserError: with all reasons.
    """
    if why := vllm_refusals(config_of(adapter), largest_rank):
        raise UserError(f"{name}: vLLM cannot serve this adapter: {'; '.join(why)}; set serve.form=merged")


def published_adapter(adapter: Path, name: str, base: str, *, into: Path | None = None) -> Path:
    """Return the folder of an adapter as vLLM finds it, made where it is not there.

    Args:
        adapter: PEFT's folder.
        name: that vLLM will answer to.
        base: the path that vLLM was started with.
        into: the folder that vLLM looks into; the runs volume's where none is given.

    Raises:
        RefusedError: a folder of that name holds something else, or cannot be read by another user.
    """
    folder = (into or folder_of_adapters()) / name
    config = {**config_of(adapter), "base_model_name_or_path": base}
    with exclusive_lock(folder, on_wait=lambda: say(f"progress: waiting for the process that writes {name}")):
        if not folder.exists():
            with build_folder(folder) as partial:
                shutil.copyfile(adapter / WEIGHTS_FILE, partial / WEIGHTS_FILE)
                (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    if config_of(folder) != config or adapter_sha256(folder) != adapter_sha256(adapter):
        raise RefusedError(f"{folder}: it does not hold the adapter of that name; delete the folder and roll out again")
    for path in (folder, folder / CONFIG_FILE, folder / WEIGHTS_FILE):
        if not path.stat().st_mode & READABLE:
            raise RefusedError(f"{path}: other users cannot read it, and vLLM may be one; chmod -R o+rX {folder}")
    return folder
