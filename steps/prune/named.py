"""What names a folder of the runs volume, so that it stays: what serves, kept versions, and runs that may still need it."""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from steps.common.adapter.adapter_files import WEIGHTS_FILE, adapter_sha256
from steps.common.kubernetes import workflow_objects
from steps.common.kubernetes.resource import DEPLOYMENTS
from steps.common.kubernetes.workflow_objects import WORKFLOWS
from steps.common.machine import servers
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UnreachableError
from steps.common.storage import volumes
from steps.common.storage.retention import guarded
from steps.prune.kept_versions import KeptVersions, kept_versions
from steps.prune.live_runs import LiveRuns, of_this_machine, of_workflows


@dataclass(frozen=True)
class Named:
    """Everything that names folders."""

    serving: str  # the Deployments of the namespace, or the servers of this machine, as text
    runs: LiveRuns
    versions: KeptVersions

    def why_kept(self, folder: Path) -> str:
        """Return why a folder is kept; empty if nothing names it."""
        kind, key = folder.relative_to(volumes.runs()).parts[0], guarded(folder).name
        if _mentions(self.serving, folder):
            return "served"
        if any(_mentions(text, folder) for text in self.runs.texts):
            return "a run may need it"
        rows = {digest[: len(key)] for digest in self.versions.rows}
        merged = {one[: len(key)] for one in self.versions.merged}
        of_a_version = (
            (kind == "merged" and key in merged)
            or (kind == "prepared" and key in rows)
            or (kind == "tunings" and self._is_kept_adapter(folder / "adapter"))
            or (kind == "restored" and self._is_kept_number(folder))
        )
        return "of a version that is kept" if of_a_version else ""

    def _is_kept_adapter(self, adapter: Path) -> bool:
        return (adapter / WEIGHTS_FILE).exists() and adapter_sha256(adapter) in self.versions.adapters

    def _is_kept_number(self, folder: Path) -> bool:
        number = re.match(r"\d+", guarded(folder).name)
        return number is not None and int(number[0]) in self.versions.numbers.get(folder.parent.name, set())


def _mentions(text: str, folder: Path) -> bool:
    """Return whether a text has the end of a folder's path, or its name if that is unique by itself."""
    whole = guarded(folder)
    end = f"{whole.parent.name}/{whole.name}" if whole.parent.parent != volumes.runs() else whole.name
    return re.search(rf"{re.escape(end)}(?![\w-])", text) is not None


def find_named(latest: int, newer_than: float) -> Named:
    """Ask the registry, the cluster or this machine.

    Args:
        latest: how many of each model's latest versions are kept.
        newer_than: in seconds since 1970; a run of this machine that was begun or resumed later can be resumed.

    Raises:
        UserError: the cluster refuses to tell. Nothing may be deleted then.
        UnreachableError: the registry does not answer.
    """
    try:
        versions = kept_versions(latest)
    except UnreachableError as error:
        raise UnreachableError(f"nothing was deleted: {error}") from None
    here = of_this_machine(newer_than)
    if not cluster_settings.in_cluster():
        return Named(_servers(), here, versions)
    space = cluster_settings.namespace()
    runs = of_workflows(WORKFLOWS.list("", space), workflow_objects.ENDED)
    both = LiveRuns([*runs.texts, *here.texts], min(runs.since, here.since, time.time()))
    return Named(json.dumps(DEPLOYMENTS.list("", space)), both, versions)


def _servers() -> str:
    """Return the state of this machine's servers, and the models that those have opened which run, as text."""
    folder = volumes.runs() / "serving"
    found = [file.read_text(errors="replace") for file in folder.glob("*/*.json")]
    for file in folder.glob(f"*/*/{servers.STARTED}"):
        # Also of a rollout that is under way, or was killed: it has not saved the state yet.
        if servers.Process.read(file.read_text(), file).alive():
            found += [str(link.readlink()) for link in file.parent.iterdir() if link.is_symlink()]
    return "\n".join(found)
