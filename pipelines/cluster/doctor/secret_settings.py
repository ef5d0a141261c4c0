"""Settings, Secrets, and MLflow."""

from dataclasses import dataclass

from pipelines.cluster.config_map import setting
from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown


@dataclass(frozen=True)
class Known:
    """A Secret that steps read where it is there."""

    of: str
    keys: tuple[str, ...]
    purpose: str


SECRETS = (
    Known("hub", ("token",), "gated models and data sets of a hub"),
    Known("object-store", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "data and models at s3://"),
    Known("mlflow", ("username", "password"), "an MLflow that asks who you are"),
    Known("api-key", ("key",), "what the served model asks of its users"),
    Known("webhook", ("url",), "who is told how a run ended"),
)


def secrets(connection: Connection, prefix: str) -> list[Finding]:
    """Tell which Secrets are there; their values are not looked at beyond whether there is one."""
    return [_secret(connection, f"{prefix}-{known.of}", known) for known in SECRETS]


def _secret(connection: Connection, name: str, known: Known) -> Finding:
    literals = " ".join(f"--from-literal={key}=…" for key in known.keys)
    create = f"kubectl create secret generic {name} -n {connection.namespace} {literals}"
    with questions.if_allowed():
        held = questions.secret_keys(connection, name)
        if held is None:
            return Finding("secrets", State.NOTE, f"{name} is not set; it is for {known.purpose}", create)
        if lacking := [key for key in known.keys if key not in held]:
            again = f"kubectl delete secret {name} -n {connection.namespace}; {create}"
            return Finding("secrets", State.MISSING, f"{name} has no value of {lacking[0]!r}", again)
        return Finding("secrets", State.OK, f"{name} is set")
    return Finding(
        "secrets", State.UNKNOWN, f"you may not look whether {name} is there; it is for {known.purpose}", create
    )


def tracking(connection: Connection) -> list[Finding]:
    """Tell whether MLflow is set, and, where it is a Service of this namespace, whether it is ready."""
    with questions.if_allowed():
        uri = setting(connection, "MLFLOW_TRACKING_URI")
        if uri or questions.user_may(connection, "get", "configmaps", ""):
            return [_tracking(connection, uri)]
    return [unknown("MLflow", "ConfigMaps, Services and pods")]


def _tracking(connection: Connection, uri: str) -> Finding:
    if not uri:
        settings = "the ConfigMap fineline sets no MLFLOW_TRACKING_URI"
        return Finding("MLflow", State.MISSING, settings, "set it, or install an overlay that brings MLflow")
    name, _, port = uri.partition("://")[2].partition("/")[0].partition(":")
    if "." in name:
        return Finding("MLflow", State.OK, f"{uri}; outside the namespace, not asked")
    ready = questions.ready_pods(connection, name)
    if ready is None:
        return Finding("MLflow", State.MISSING, f"{uri}: no Service {name!r}", "install an overlay that brings MLflow")
    if not ready:
        look = f"kubectl describe pods -n {connection.namespace} -l app.kubernetes.io/component=mlflow"
        return Finding("MLflow", State.MISSING, f"{uri}: no pod of it is ready", look)
    if questions.refuses_name(connection, name, int(port or 80)):
        text = f"{uri}: its pods are ready, and it answers 403 to whoever calls it {name!r}"
        names = f"give mlflow server --allowed-hosts='localhost:*,127.0.0.1:*,{name},{name}:*,{name}.*'"
        return Finding("MLflow", State.MISSING, text, names)
    return Finding("MLflow", State.OK, f"{uri} is ready")
