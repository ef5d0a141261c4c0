"""Checks what the user and the steps' service accounts may do."""

from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import INSTALL, Finding, State, unknown
from steps.common.kubernetes.workflow_objects import ARGO_GROUP

OF_USERS = [
    ("create", "workflows", ARGO_GROUP, "submit"),
    ("get", "workflows", ARGO_GROUP, "follow a run"),
    ("patch", "workflows", ARGO_GROUP, "stop a run"),
    # A websocket starts with a GET; newer versions of Kubernetes require `create` too.
    ("get", "pods/portforward", "", "send local data"),
    ("create", "pods/portforward", "", "send local data"),
    ("get", "pods/log", "", "read logs"),
]
OF_ACCOUNTS = [
    ("fineline-executor", "create", "workflowtaskresults", ARGO_GROUP),
    ("fineline-executor", "patch", "workflowtaskresults", ARGO_GROUP),
    ("fineline-pull", "update", "leases", "coordination.k8s.io"),
    ("fineline-rollout", "update", "leases", "coordination.k8s.io"),
    ("fineline-rollout", "patch", "deployments", "apps"),
    ("fineline-rollout", "patch", "services", ""),
]


def user(connection: Connection) -> list[Finding]:
    """Check that the user has the permissions that the commands need."""
    denied: dict[str, list[str]] = {}
    for verb, resource, group, purpose in OF_USERS:
        if not questions.user_may(connection, verb, resource, group):
            denied.setdefault(purpose, []).append(f"{verb} {resource}")
    if denied:
        what = "; ".join(f"{purpose} ({', '.join(lacking)})" for purpose, lacking in denied.items())
        bind = f"kubectl create rolebinding fineline-me -n {connection.namespace} --role=fineline-user --user=YOU"
        return [Finding("your permissions", State.MISSING, f"you may not {what}", bind)]
    return [Finding("your permissions", State.OK, "submit, follow, stop, send data, read logs")]


def accounts(connection: Connection) -> list[Finding]:
    """Check that the steps' service accounts have the permissions that the steps need."""
    with questions.if_allowed():
        lacking = sorted(
            {
                f"{account} may not {verb} {resource}"
                for account, verb, resource, group in OF_ACCOUNTS
                if not questions.account_may(connection, account, verb, resource, group)
            }
        )
        if lacking:
            return [Finding("steps' permissions", State.MISSING, "; ".join(lacking), INSTALL)]
        return [Finding("steps' permissions", State.OK, "every service account has what its steps need")]
    return [unknown("steps' permissions", "the permissions of service accounts")]
