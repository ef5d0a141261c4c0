"""The restore step, the first of a rollback: downloads a version with everything that rollout needs. Imports no torch."""

from typing import Annotated, Any

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.handover.resolved import Resolved, ResolvedModel
from steps.common.registry import tracking, versions
from steps.common.registry.registry_errors import NotInRegistryError
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import build_folder


class RestoreInput(Input):
    """The version to restore."""

    name: Annotated[str, Parameter(description="Name of the registered model")]
    version: Annotated[str, Parameter(description="Version; empty: the previous champion")] = ""


class RestoreOutput(Output):
    """The version, as the run that made it passed it to rollout."""

    resolved: Resolved
    model: ResolvedModel
    adapter_folder: str
    version: int
    report: str


@step
def restore(input: RestoreInput) -> RestoreOutput:
    """Download a version's adapter, recipe and report from the registry to the runs volume.

    Raises:
        UserError: there is no such model or version, or no previous champion.
        UnreachableError: MLflow does not answer.
    """
    uri = tracking.default_uri()
    store = tracking.client(uri)
    version = _version(store, input)
    number = int(version.version)
    folder = volumes.restored_version(input.name, number)
    if not folder.exists():
        with build_folder(folder) as partial:
            for part in (versions.RESOLVED_FILE, versions.EVALUATION_FILE, versions.ADAPTER_FOLDER):
                versions.download(store, version, part, partial)
    resolved = Resolved.model_validate_json((folder / versions.RESOLVED_FILE).read_text())
    say(f"{input.name} version {number}, made by run {resolved.run}")
    return RestoreOutput(
        resolved=resolved,
        model=resolved.model,
        adapter_folder=str(folder / versions.ADAPTER_FOLDER),
        version=number,
        report=str(folder / versions.EVALUATION_FILE),
    )


def _version(store: Any, input: RestoreInput) -> Any:
    if not input.version:
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
