"""The restore step, the first of a rollback: downloads a version with everything that rollout needs. Imports no torch."""

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.adapter.registered_adapter import check_registered
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
from steps.common.weights import store
from steps.restore.stored_recipe import checked_recipe


class RestoreInput(Input):
    """The version to restore."""

    name: Annotated[str, Parameter(description="Name of the registered model")]
    version: Annotated[str, Parameter(description="Version; empty: the previous champion")] = ""
    force: Annotated[Literal["true", "false"], Parameter(description="Even if the version has been withdrawn")] = (
        "false"
    )
    run: Annotated[str, Parameter(description="The rollback, until whose end the base model is not deleted")] = ""
    hold_hours: Annotated[float, Parameter(description="After so many hours it may be deleted anyway")] = 14 * 24


class RestoreOutput(Output):
    """The version, as the run that made it passed it to rollout."""

    resolved: Resolved
    model: ResolvedModel
    base_folder: str
    fetch: bool  # whether the base model has to be fetched
    adapter_folder: str
    version: int
    report: str
    secrets: str  # prefix of the Secrets that rollout reads


@step
def restore(input: RestoreInput) -> RestoreOutput:
    """Download a version's adapter, recipe and report from the registry to the runs volume.

    Raises:
        UserError: there is no such model or version, no previous champion, the version was withdrawn or names Secrets that are
            not allowed, or the registry holds another adapter or recipe than Fineline has registered.
        UnreachableError: MLflow does not answer.
    """
    uri = tracking.default_uri()
    registry = tracking.client(uri)
    version = _version(registry, input)
    if input.force != "true" and (line := withdrawn.in_words(version)):
        raise UserError(line)
    number = int(version.version)
    folder = _downloaded(registry, version)
    resolved = checked_recipe(_read(folder / versions.RESOLVED_FILE), version, uri)
    say(f"{input.name} version {number}, made by run {resolved.run}")
    base = volumes.published_model(resolved.model.digest)
    return RestoreOutput(
        resolved=resolved,
        model=resolved.model,
        base_folder=str(base),
        fetch=not _is_there(base, input),
        adapter_folder=str(folder / versions.ADAPTER_FOLDER),
        version=number,
        report=str(folder / versions.EVALUATION_FILE),
        secrets=resolved.recipe.secrets,
    )


def _is_there(base: Path, input: RestoreInput) -> bool:
    """Return whether the base model is on the weights volume, where it then stays until the rollback ends."""
    if input.run:
        store.hold(base, input.run, input.hold_hours)  # first: until then it may be deleted at any moment
    if there := store.intact(base):
        store.mark_used(base)
    return there


def _downloaded(registry: Any, version: Any) -> Path:
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
            _download(registry, version, folder)
    return folder


def _download(registry: Any, version: Any, folder: Path) -> None:
    with build_folder(folder) as partial:
        for part in (versions.RESOLVED_FILE, versions.EVALUATION_FILE, versions.ADAPTER_FOLDER):
            versions.download(registry, version, part, partial)
        check_registered(version, partial / versions.ADAPTER_FOLDER)


def _read(file: Path) -> Resolved:
    try:
        return Resolved.read(file.read_text(), file)
    except ValueError as error:
        raise UserError(f"{file}: not a resolved recipe: {first_fault(error)}; roll back to another version") from None


def _version(registry: Any, input: RestoreInput) -> Any:
    if not input.version:
        champion = versions.version_at(registry, input.name, versions.CHAMPION)
        others = set(versions.rolled_out_now(registry, input.name)) - {int(champion.version) if champion else 0}
        if champion and others:
            say(f"version {max(others)} is being rolled out: back to the champion, version {champion.version}")
            return champion
        before = versions.champion_before(registry, input.name)
        if before is None:
            raise UserError(f"{input.name}: there is no previous champion; name the version to roll back to")
        return before
    if not input.version.isdigit():
        raise UserError(f"version: must be a number, not {input.version!r}")
    try:
        return registry.get_model_version(input.name, input.version)
    except NotInRegistryError:
        known = sorted(int(v.version) for v in registry.search_model_versions(f"name = '{input.name}'"))
        hint = f"its versions are {', '.join(map(str, known))}" if known else "no model of that name is registered"
        raise UserError(f"{input.name} has no version {input.version}; {hint}") from None
