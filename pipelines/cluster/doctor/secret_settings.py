"""Checks the Secrets and MLflow."""

from dataclasses import dataclass

from pipelines.cluster.config_map import asks_for_login, setting
from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown
from steps.common.handover.installation import API_KEY_DEFAULT_SETTING, NONE
from steps.common.runtime.redaction import without_credentials


@dataclass(frozen=True)
class KnownSecret:
    """A Secret that steps read if it exists."""

    suffix: str
    keys: tuple[str, ...]
    purpose: str
    passing: str = ""  # a key that it holds only while clients change to another one


SECRETS = (
    KnownSecret("hub", ("token",), "gated models and data sets of a hub"),
    KnownSecret("object-store", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "data and models at s3://"),
    KnownSecret("mlflow", ("username", "password"), "an MLflow that requires a login"),
    KnownSecret("api-key", ("key",), "the API key that users of the served model send", "previous"),
    KnownSecret("webhook", ("url",), "the webhook that is notified when a run ends"),
)


def secrets(connection: Connection, prefix: str) -> list[Finding]:
    """Check which Secrets exist, that each key has a value, and that those are there that the installation requires."""
    closed = setting(connection, API_KEY_DEFAULT_SETTING) != NONE
    required = {
        "api-key": "served models require an API key; a run that would serve one is refused" if closed else "",
        "mlflow": "MLflow requires a login; it does not start without" if asks_for_login(connection) else "",
    }
    return [_secret(connection, f"{prefix}-{known.suffix}", known, required.get(known.suffix, "")) for known in SECRETS]


def _secret(connection: Connection, name: str, known: KnownSecret, required: str) -> Finding:
    literals = " ".join(f"--from-literal={key}=…" for key in known.keys)
    create = f"kubectl create secret generic {name} -n {connection.namespace} {literals}"
    with questions.if_allowed():
        held = questions.secret_keys(connection, name)
        if held is None and required:
            return Finding("secrets", State.MISSING, f"{name} is not set, and {required}", create)
        if held is None:
            return Finding("secrets", State.NOTE, f"{name} is not set; it is for {known.purpose}", create)
        if lacking := [key for key in known.keys if key not in held]:
            again = f"kubectl delete secret {name} -n {connection.namespace}; {create}"
            return Finding("secrets", State.MISSING, f"{name} has no value for {lacking[0]!r}", again)
        if known.passing in held:
            text = f"{name} is set; its {known.passing!r} is accepted too, until you remove it and restart what serves"
            remove = f"""-p '[{{"op": "remove", "path": "/data/{known.passing}"}}]'"""
            patch = f"kubectl patch secret {name} -n {connection.namespace} --type=json {remove}"
            return Finding("secrets", State.NOTE, text, patch)
        return Finding("secrets", State.OK, f"{name} is set")
    return Finding(
        "secrets", State.UNKNOWN, f"you may not check whether {name} exists; it is for {known.purpose}", create
    )


def tracking(connection: Connection) -> list[Finding]:
    """Check that MLflow is set and, if it is a Service of this namespace, that it is ready."""
    with questions.if_allowed():
        uri = setting(connection, "MLFLOW_TRACKING_URI")
        if uri or questions.user_may(connection, "get", "configmaps", ""):
            return [_tracking(connection, uri)]
    return [unknown("MLflow", "ConfigMaps, Services and pods")]


def _tracking(connection: Connection, uri: str) -> Finding:
    uri = without_credentials(uri)
    if not uri:
        text = "the ConfigMap fineline does not set MLFLOW_TRACKING_URI"
        return Finding("MLflow", State.MISSING, text, "set it, or install an overlay that includes MLflow")
    name, _, port = uri.partition("://")[2].partition("/")[0].partition(":")
    if "." in name:
        return Finding("MLflow", State.OK, f"{uri}; outside the namespace, not checked")
    ready = questions.ready_pods(connection, name)
    if ready is None:
        remedy = "install an overlay that includes MLflow"
        return Finding("MLflow", State.MISSING, f"{uri}: no Service {name!r}", remedy)
    if not ready:
        remedy = f"kubectl describe pods -n {connection.namespace} -l app.kubernetes.io/component=mlflow"
        return Finding("MLflow", State.MISSING, f"{uri}: none of its pods is ready", remedy)
    if questions.refuses_name(connection, name, int(port or 80)):
        text = f"{uri}: its pods are ready, but it answers 403 to requests for the host {name!r}"
        remedy = f"start mlflow server with --allowed-hosts='localhost:*,127.0.0.1:*,{name},{name}:*,{name}.*'"
        return Finding("MLflow", State.MISSING, text, remedy)
    return Finding("MLflow", State.OK, f"{uri} is ready")
