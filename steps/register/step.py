"""The register step: registers the adapter, with its lineage, as a version in MLflow. Imports no torch."""

from pathlib import Path
from typing import Annotated, Any

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.handover.made_from import made_from
from steps.common.handover.report import read_report
from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking, versions, withdrawn
from steps.common.registry.registry_errors import registry_errors
from steps.common.registry.tracking import RegistryClient
from steps.common.registry.verdict import check_verdict
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.runtime.redaction import redact_all
from steps.register.package import package


class RegisterInput(Input):
    """A candidate that passed the gate."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    rows_digest: Annotated[str, Parameter(description="Digest of the prepared rows")]
    adapter_folder: Annotated[str, Parameter(description="Folder of the candidate's adapter")]
    adapter_sha256: Annotated[str, Parameter(description="SHA-256 of the adapter's weights")]
    report: Annotated[str, Parameter(description="File with the evaluation's report")]


class RegisterOutput(Output):
    """The registered version."""

    version: int
    new: bool
    model_uri: str


@step
def register(input: RegisterInput) -> RegisterOutput:
    """Register the adapter as `candidate`, or find the version that has it already.

    If the recipe serves nothing, the version also becomes `champion`.

    Raises:
        RefusedError: the version that has the adapter was withdrawn, or the candidate was judged against another champion.
    """
    resolved = input.resolved
    name = resolved.recipe.name
    store = tracking.client(resolved.tracking.uri)
    known = versions.version_of(store, name, input.adapter_sha256, resolved.model.digest)
    if known:
        _check_not_withdrawn(store, resolved, known)
    version = known or _register(store, input)
    number = int(version.version)
    if known:
        # Another recipe, or other held-out rows, led to the same adapter: from now on it counts as made from these.
        store.set_model_version_tag(name, str(number), versions.MADE_FROM, made_from(resolved))
    if resolved.tracking.run_id:
        with tracking.telling("the version with its run"):
            store.set_tag(resolved.tracking.run_id, "fineline.version", number)
    store.set_registered_model_alias(name, versions.CANDIDATE, number)
    if not resolved.recipe.serve.enabled:
        check_verdict(versions.version_at(store, name, versions.CHAMPION), number, read_report(Path(input.report)))
        versions.make_champion(store, name, number)
    say(f"{name} version {number}: {'this adapter is already registered' if known else 'registered'}")
    return RegisterOutput(version=number, new=known is None, model_uri=f"models:/{name}/{number}")


def lineage(input: RegisterInput) -> dict[str, str]:
    """Return the version's lineage as tags."""
    resolved = input.resolved
    return {
        versions.RUN: resolved.run,
        versions.BASE_URI: resolved.model.uri,
        versions.BASE_DIGEST: resolved.model.digest,
        "fineline.base_licence": resolved.model.licence,
        "fineline.data_sha256": resolved.data.train_sha256,
        versions.MADE_FROM: made_from(resolved),
        versions.ROWS_DIGEST: input.rows_digest,
        versions.ADAPTER_SHA256: input.adapter_sha256,
        "fineline.method": resolved.recipe.tune.method,
        "fineline.code_version": resolved.code_version,
    }


def _check_not_withdrawn(store: Any, resolved: Resolved, known: Any) -> None:
    try:
        withdrawn.check_not_withdrawn(known)
    except RefusedError:
        # The next retraining need not train the same again to find this out.
        champion = versions.version_at(store, resolved.recipe.name, versions.CHAMPION)
        if resolved.tracking.run_id:
            against = int(champion.version) if champion else 0
            store.set_tag(resolved.tracking.run_id, versions.REFUSED_AGAINST, against)
        raise


def _register(store: RegistryClient, input: RegisterInput) -> Any:
    resolved = input.resolved
    experiment = tracking.experiment(store, resolved.recipe.name)
    # The functions of `mlflow` itself, which the client does not have, know neither our errors nor our patience.
    with registry_errors(store.tracking_uri), tracking.patient(store.patience):
        return _log_and_register(store, input, experiment)


def _log_and_register(store: RegistryClient, input: RegisterInput, experiment: str) -> Any:
    import tempfile

    import mlflow

    resolved, name = input.resolved, input.resolved.recipe.name
    mlflow.set_tracking_uri(tracking.uri_to_connect(resolved.tracking.uri))
    mlflow.set_experiment(experiment_id=experiment)
    tags = redact_all(lineage(input))
    model = mlflow.initialize_logged_model(
        name=name, source_run_id=resolved.tracking.run_id or None, tags=tags, model_type="adapter"
    )
    with tempfile.TemporaryDirectory() as folder:
        package(Path(folder), resolved, Path(input.base_folder), Path(input.adapter_folder), Path(input.report))
        store.log_model_artifacts(model.model_id, folder)
    mlflow.finalize_logged_model(model.model_id, "READY")
    if resolved.tracking.run_id:
        with tracking.telling("the scores with the version"):
            _log_scores(input, model.model_id)
    return mlflow.register_model(f"models:/{model.model_id}", name, tags=tags)


def _log_scores(input: RegisterInput, model_id: str) -> None:
    """Log the scores of the report with the model, and link it to the run that produced it."""
    import mlflow

    report = read_report(Path(input.report))
    metrics = {
        f"{role}/{name}": value for role, scores in report.scores.items() for name, value in scores.metrics().items()
    }
    with mlflow.start_run(run_id=input.resolved.tracking.run_id):
        mlflow.log_metrics(metrics, model_id=model_id)
        mlflow.log_outputs([mlflow.entities.LoggedModelOutput(model_id, 0)])
