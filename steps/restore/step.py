"""The restore step, the first of a rollback: downloads a version with everything that rollout needs. Imports no torch."""

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.handover.installation import check_secrets
from steps.common.handover.resolved import Resolved, ResolvedModel
from steps.common.registry import tracking, versions, withdrawn
from steps.common.registry.registry_errors import NotInRegistryError
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, digest_of, exclusive_lock
from steps.common.storage.record import first_fault


class RestoreInput(Input):
    """The version to restore."""

    name: Annotated[str, Parameter(description="Name of the registered model")]
    version: Annotated[str, Parameter(description="Version; empty: the previous champion")] = ""
    force: Annotated[Literal["true", "false"], Parameter(description="Even if the version has been withdrawn")] = (
        "false"
    )


class RestoreOutput(Output):
    """The version, as the run that made it passed it to rollout."""

    resolved: Resolved
    model: ResolvedModel
    adapter_folder: str
    version: int
    report: str
    secrets: str  # prefix of the Secrets that rollout reads


@step
def restore(input: RestoreInput) -> RestoreOutput:
    """Download a version's adapter, recipe and report from the registry to the runs volume.

    Raises:
        UserError: there is no such model or version, no previous champion, the version was withdrawn or names Secrets that are
            not allowed, or the registry holds another adapter than the one that was registered.
        UnreachableError: MLflow does not answer.
    """
    uri = tracking.default_uri()
    store = tracking.client(uri)
    version = _version(store, input)
    if input.force != "true" and (line := withdrawn.in_words(version)):
        raise UserError(line)
    number = int(version.version)
    folder = _downloaded(store, version)
    resolved = _read(folder / versions.RESOLVED_FILE)
    # The registry may have been moved since; the version is in the one that was asked.
    asked = resolved.tracking.model_copy(update={"uri": tracking.kept_uri(uri)})
    resolved = resolved.model_copy(update={"tracking": asked})
    check_secrets(resolved.recipe)
    say(f"{input.name} version {number}, made by run {resolved.run}")
    return RestoreOutput(
        resolved=resolved,
        model=resolved.model,
        adapter_folder=str(folder / versions.ADAPTER_FOLDER),
        version=number,
        report=str(folder / versions.EVALUATION_FILE),
        secrets=resolved.recipe.secrets,
    )


def _downloaded(store: Any, version: Any) -> Path:
    """Return the folder with a version's files, downloaded unless they are there already.

    Raises:
        UserError: the adapter is not the one that was registered.
    """
    registered = version.tags.get(versions.ADAPTER_SHA256, "")
    # Where the files come from is unique in every registry; the number and the adapter may come again, with another report.
    origin = [registered, version.tags.get(versions.BASE_DIGEST, ""), str(version.source), str(version.run_id)]
    folder = volumes.restored_version(version.name, int(version.version), digest_of(origin))
    line = WaitingLine()
    with exclusive_lock(folder, on_wait=lambda: line.report("another process that restores the same version")):
        if folder.exists() and adapter_sha256(folder / versions.ADAPTER_FOLDER) != registered:
            shutil.rmtree(folder)  # damaged since it was downloaded
        if not folder.exists():
            _download(store, version, folder, registered)
    return folder


def _download(store: Any, version: Any, folder: Path, registered: str) -> None:
    with build_folder(folder) as partial:
        for part in (versions.RESOLVED_FILE, versions.EVALUATION_FILE, versions.ADAPTER_FOLDER):
            versions.download(store, version, part, partial)
        if (found := adapter_sha256(partial / versions.ADAPTER_FOLDER)) != registered:
            raise UserError(
                f"{version.name} version {version.version}: the registry's adapter has the SHA-256 {found[:12]}, and "
                f"{registered[:12] or 'none'} was registered; restore the artifacts from a backup, or choose another version"
            )


def _read(file: Path) -> Resolved:
    try:
        return Resolved.read(file.read_text(), file)
    except ValueError as error:
        raise UserError(f"{file}: not a resolved recipe: {first_fault(error)}; roll back to another version") from None


def _version(store: Any, input: RestoreInput) -> Any:
    if not input.version:
        champion = versions.version_at(store, input.name, versions.CHAMPION)
        others = set(versions.rolled_out_now(store, input.name)) - {int(champion.version) if champion else 0}
        if champion and others:
            say(f"version {max(others)} is being rolled out: back to the champion, version {champion.version}")
            return champion
        before = versions.champion_before(store, input.name)
        if before is None:
            raise UserError(f"{input.name}: there is no previous champion; name the version to roll back to")
        return before
    if not input.version.isdigit():
        raise UserError(f"version: must be a number, not {input.version!r}")
    try:
        return store.get_model_version(input.name, input.version)
    except NotInRegistryError:
        known = sorted(int(v.version) for v in store.search_model_versions(f"name = '{input.name}'"))
        hint = f"its versions are {', '.join(map(str, known))}" if known else "no model of that name is registered"
        raise UserError(f"{input.name} has no version {input.version}; {hint}") from None
