"""What the user and the steps' accounts may do."""

from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown

ARGO = "argoproj.io"
OF_A_USER = [
    ("create", "workflows", ARGO, "submit"),
    ("get", "workflows", ARGO, "follow a run"),
    ("patch", "workflows", ARGO, "stop a run"),
    ("create", "pods", "", "send local data"),
    # By websockets, which begin with a GET; newer versions of Kubernetes ask for `create` besides.
    ("get", "pods/exec", "", "send local data"),
    ("create", "pods/exec", "", "send local data"),
    ("get", "pods/log", "", "read logs"),
]
OF_ACCOUNTS = [
    ("fineline-step", "create", "workflowtaskresults", ARGO),
    ("fineline-provision", "create", "workflowtaskresults", ARGO),
    ("fineline-pull", "create", "workflowtaskresults", ARGO),
    ("fineline-pull", "update", "leases", "coordination.k8s.io"),
    ("fineline-rollout", "create", "workflowtaskresults", ARGO),
    ("fineline-rollout", "patch", "deployments", "apps"),
    ("fineline-rollout", "patch", "services", ""),
]


def user(connection: Connection) -> list[Finding]:
    """Tell what of the commands the user may not do."""
    denied: dict[str, list[str]] = {}
    for verb, resource, group, purpose in OF_A_USER:
        if not questions.user_may(connection, verb, resource, group):
            denied.setdefault(purpose, []).append(f"{verb} {resource}")
    if denied:
        what = "; ".join(f"{purpose} ({', '.join(lacking)})" for purpose, lacking in denied.items())
        bind = f"kubectl create rolebinding fineline-me -n {connection.namespace} --role=fineline-user --user=YOU"
        return [Finding("your rights", State.MISSING, f"you may not {what}", bind)]
    return [Finding("your rights", State.OK, "submit, follow, stop, send data, read logs")]


def accounts(connection: Connection) -> list[Finding]:
    """Tell whether the steps' service accounts may do what they have to."""
    with questions.if_allowed():
        lacking = sorted(
            {
                f"{account} may not {verb} {resource}"
                for account, verb, resource, group in OF_ACCOUNTS
                if not questions.account_may(connection, account, verb, resource, group)
            }
        )
        if lacking:
            apply = f"kubectl apply --server-side -n {connection.namespace} -k argo/overlays/kind  # or aks, eks, gke"
            return [Finding("steps' rights", State.MISSING, "; ".join(lacking), apply)]
        return [Finding("steps' rights", State.OK, "each account may what its steps do")]
    return [unknown("steps' rights", "what other accounts may do")]
