"""Whether an adapter from the registry is the one that was registered."""

from pathlib import Path
from typing import Any

from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.registry import versions
from steps.common.runtime.errors import UserError


def check_registered(version: Any, adapter: Path) -> None:
    """Raise if a version's adapter is not the one that was registered.

    Args:
        version: the registered version.
        adapter: the folder that was downloaded.

    Raises:
        UserError: its weights have another SHA-256, or there are none.
    """
    registered = version.tags.get(versions.ADAPTER_SHA256, "")
    try:
        found = adapter_sha256(adapter)
    except FileNotFoundError:
        found = ""
    if found and found == registered:
        return
    raise UserError(
        f"{version.name} version {version.version}: the registry's adapter has the SHA-256 {found[:12] or 'of no file'}, and "
        f"{registered[:12] or 'none'} was registered; restore the artifacts from a backup, or choose another version"
    )
