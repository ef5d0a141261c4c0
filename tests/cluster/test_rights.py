"""Who may what, tried on a real API server: the tables of docs/rights.md, and what admission refuses.

Nobody is asked for a password: each request is impersonated. What Argo's controller and Kubernetes' own controllers do is
sent in their names.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster.submission import build as build_run
from pipelines.workflows import retrain
from pipelines.workflows.rendered import BUILDERS
from pipelines.workflows.step_pods.containers import POD_SECURITY, SECURITY
from steps.common.nodes.node_request import NAMESPACE_LABEL, RUN_LABEL
from steps.rollout.pods.version_objects import deployment
from tests.cluster.test_manifests import serving
from tests.support.commands import wait_for
from tests.support.impersonation import Person
from tests.support.kubectl import get, kubectl
from tests.support.overlay import OUTSIDE, install, uninstall
from tests.support.rights_page import CLUSTER, DEFAULT, ITS_NAMESPACE, grants

FIRST, SECOND, THIRD = "fineline-rights-a", "fineline-rights-b", "fineline-rights-c"
COMPONENTS = {
    FIRST: ("one-node", "karpenter", "autoscale-hpa", "api"),
    SECOND: ("mlflow-postgres", "compute-class", "autoscale-keda"),
    THIRD: ("gpu-nodes",),
}
CLUSTER_KINDS = {
    "nodepools.karpenter.sh": "NodePool",
    "nodeclaims.karpenter.sh": "NodeClaim",
    "computeclasses.cloud.google.com": "ComputeClass",
}


@pytest.fixture(scope="module")
def kinds(crds: None) -> Iterator[None]:
    """The kinds with which nodes are bought: those of the cluster, else ones that take any object."""
    made = []
    for name, kind in CLUSTER_KINDS.items():
        plural, _, group = name.partition(".")
        if kubectl("get", "crd", name, check=False).returncode == 0:
            continue
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        names = {"kind": kind, "plural": plural, "singular": kind.lower()}
        spec = {"group": group, "names": names, "scope": "Cluster", "versions": [version]}
        metadata = {"name": name, "annotations": {"api-approved.kubernetes.io": "https://karpenter.sh"}}
        document = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        kubectl("apply", "-f", "-", document={**document, "metadata": metadata, "spec": spec})
        kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
        made.append(name)
    yield
    for name in made:
        kubectl("delete", "crd", name)


@pytest.fixture(scope="module")
def installed(kinds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("overlays")
    kubectl("delete", "namespace", *COMPONENTS, "--ignore-not-found")
    kubectl("delete", "clusterrolebinding", f"alex-{FIRST}", "--ignore-not-found")
    made = {name: install(folder, name, *parts, upon="base") for name, parts in COMPONENTS.items()}
    people = {"pat": ["fineline-user"], "ann": ["fineline-user", "fineline-approver"]}
    for person, roles in people.items():
        for role in roles:
            kubectl("create", "rolebinding", f"{person}-{role}", "-n", FIRST, f"--role={role}", f"--user={person}")
    everything = ["--verb=*", "--resource=pods,workflows.argoproj.io,cronworkflows.argoproj.io"]
    kubectl("create", "role", "argo", "-n", FIRST, *everything)
    kubectl("create", "rolebinding", "argo", "-n", FIRST, "--role=argo", "--serviceaccount=argo:argo")
    kubectl("create", "rolebinding", "ed", "-n", FIRST, "--role=argo", f"--user={EDITOR.name}")
    kubectl("create", "clusterrolebinding", f"alex-{FIRST}", "--clusterrole=cluster-admin", f"--user={ADMIN.name}")
    kubectl("create", "-n", FIRST, "-f", "-", document=run_of("finetune", name="waiting"))
    status = {
        "phase": "Running",
        "nodes": {"n": NODE},
        "storedWorkflowTemplateSpec": {"entrypoint": "main"},
    }
    # The API server takes up roles and policies a moment later.
    waiting = {"status": status}
    wait_for(
        lambda: ARGO_CONTROLLER.tries("patch", RUNS, waiting, namespace=FIRST, name="waiting", dry=False) == "", 60
    )
    wait_for(lambda: NAMES in PAT.tries("create", RUNS, run_of("theirs"), namespace=FIRST), 60)
    wait_for(lambda: all(("list", "pods") in account("fineline-rollout", one).may(one) for one in COMPONENTS), 60)
    yield made
    kubectl("delete", "clusterrolebinding", f"alex-{FIRST}")
    for place in made.values():
        uninstall(place)


RUNS, SCHEDULES = "workflows.argoproj.io", "cronworkflows.argoproj.io"
PAT, ANN, ADMIN, EDITOR = Person("pat"), Person("ann"), Person("alex"), Person("ed")
ARGO_CONTROLLER = Person("system:serviceaccount:argo:argo")
REPLICA_SETS = Person("system:serviceaccount:kube-system:replicaset-controller")


NODE = {"id": "n", "name": "n", "type": "Pod", "phase": "Running"}


def account(name: str, namespace: str = FIRST) -> Person:
    return Person(f"system:serviceaccount:{namespace}:{name}")


def run_of(template: str, name: str = "run", **spec: Any) -> dict[str, Any]:
    reference = {"workflowTemplateRef": {"name": template}}
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": name}}
    return {**body, "spec": {**reference, **spec}}


def schedule_of(**spec: Any) -> dict[str, Any]:
    body = retrain.cron("mine", arguments={"recipe": "pet-store"}).to_dict()
    body["spec"]["workflowSpec"] |= spec
    return dict(body)


# The tables of docs/rights.md


def granted(who: str, where: str, components: tuple[str, ...]) -> set[tuple[str, str]]:
    """Return what the table of accounts grants in a place, with some components installed."""
    return {
        right
        for grant in grants("Accounts")
        if (grant.who, grant.where) == (who, where) and (not grant.components or grant.components & set(components))
        for right in grant.rights
    }


@pytest.mark.parametrize("namespace", COMPONENTS)
def test_each_account_may_what_the_table_says_and_nothing_else(namespace: str, installed: dict[str, Path]) -> None:
    listed = {grant.who for grant in grants("Accounts")}
    manifests = kubectl("get", "serviceaccounts", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}").stdout
    assert set(manifests.split()) - {"default"} <= listed
    for name in sorted(listed):
        who, nobody = account(name, namespace), account("nobody", namespace)
        outside, within, shared = (
            granted(name, where, COMPONENTS[namespace]) for where in (CLUSTER, ITS_NAMESPACE, DEFAULT)
        )
        expected = {"kube-public": outside, "default": outside | shared, namespace: outside | within}
        for where, rights in expected.items():
            assert who.may(where) - nobody.may(where) == rights, (name, where)


@pytest.mark.parametrize(("person", "roles"), [(PAT, {"fineline-user"}), (ANN, {"fineline-user", "fineline-approver"})])
def test_people_may_what_their_roles_say_and_nothing_else(
    person: Person, roles: set[str], installed: dict[str, Path]
) -> None:
    expected = {right for grant in grants("People") if grant.who in roles for right in grant.rights}
    assert person.may(FIRST) - Person("nobody").may(FIRST) == expected
    assert person.may("default") == Person("nobody").may("default")


# What admission refuses of runs

NAMES = "a run names one of the templates "
SETS = "a run sets only the arguments of its template; remove "
OWN = {"templates": [{"name": "main", "container": {"image": "x"}}]}
REFUSED_RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "no template": ({"workflowTemplateRef": None, "entrypoint": "main", **OWN}, NAMES),
    "another template": ({"workflowTemplateRef": {"name": "theirs"}}, NAMES),
    "a template of the cluster": (
        {"workflowTemplateRef": {"name": "finetune", "clusterScope": True}},
        "remove clusterScope",
    ),
    "past the gate": ({"entrypoint": "rollout"}, f"{SETS}entrypoint from its spec"),
    "an account": ({"serviceAccountName": "fineline-provision"}, f"{SETS}serviceAccountName"),
    "a patch": ({"podSpecPatch": "{}"}, f"{SETS}podSpecPatch"),
    "templates": (OWN, f"{SETS}templates"),
    "defaults": ({"templateDefaults": {"serviceAccountName": "fineline-rollout"}}, f"{SETS}templateDefaults"),
    "volumes": ({"volumes": [{"name": "s", "secret": {"secretName": "fineline-hub"}}]}, f"{SETS}volumes"),
    "an exit handler": ({"onExit": "rollout"}, f"{SETS}onExit"),
    "hooks": ({"hooks": {"running": {"expression": "true", "template": "rollout"}}}, f"{SETS}hooks"),
    "an executor": ({"executor": {"serviceAccountName": "fineline-rollout"}}, f"{SETS}executor"),
    "metadata of pods": ({"podMetadata": {"labels": {"fineline.dev/reaches": "internet"}}}, f"{SETS}podMetadata"),
    "a place": ({"nodeSelector": {"a": "b"}}, f"{SETS}nodeSelector"),
    "artifacts": ({"arguments": {"artifacts": [{"name": "a"}]}}, "remove artifacts and valueFrom"),
    "a ConfigMap": (
        {
            "arguments": {
                "parameters": [{"name": "recipe", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]
            }
        },
        "remove artifacts and valueFrom",
    ),
    "the Secrets of others": (
        {"arguments": {"parameters": [{"name": "secrets", "value": "theirs"}]}},
        "the parameter secrets of a run is one of fineline;",
    ),
}


@pytest.mark.parametrize("case", REFUSED_RUNS)
@pytest.mark.parametrize("person", [PAT, ADMIN, ARGO_CONTROLLER], ids=lambda person: person.name)
def test_a_run_that_is_not_of_our_templates_as_they_are_is_refused(
    case: str, person: Person, installed: dict[str, Path]
) -> None:
    spec, reason = REFUSED_RUNS[case]
    run = run_of("finetune", **spec)
    run["spec"] = {key: value for key, value in run["spec"].items() if value is not None}
    told = person.tries("create", RUNS, run, namespace=FIRST)
    assert reason in told
    assert " cannot " not in told  # the commands take that word for a missing right
    schedule = schedule_of(**spec)
    schedule["spec"]["workflowSpec"] = run["spec"]
    assert reason in person.tries("create", SCHEDULES, schedule, namespace=FIRST)


@pytest.mark.parametrize("case", sorted(REFUSED_RUNS.keys() - {"no template"}))
def test_nor_does_a_run_become_one(case: str, installed: dict[str, Path]) -> None:
    spec, reason = REFUSED_RUNS[case]
    told = PAT.tries("patch", RUNS, {"spec": spec}, namespace=FIRST, name="waiting")
    assert reason in told or "a run keeps its template" in told
    told = PAT.tries("patch", SCHEDULES, {"spec": {"workflowSpec": spec}}, namespace=FIRST, name="retrain")
    assert reason in told


def test_the_installation_says_whose_secrets_a_run_may_name(installed: dict[str, Path], tmp_path: Path) -> None:
    run = run_of("finetune", arguments={"parameters": [{"name": "secrets", "value": "research"}]})
    assert "is one of fineline;" in PAT.tries("create", RUNS, run, namespace=FIRST)
    setting = {
        "target": {"kind": "ConfigMap", "name": "fineline"},
        "patch": '[{"op": "replace", "path": "/data/FINELINE_SECRETS", "value": "fineline, research"}]',
    }
    install(tmp_path, FIRST, *COMPONENTS[FIRST], upon="base", patches=[setting])
    try:
        wait_for(lambda: PAT.tries("create", RUNS, run, namespace=FIRST) == "", 120)
    finally:
        kubectl("apply", "--server-side", "--force-conflicts", "-k", str(installed[FIRST]))
    # An installation that was removed and made again is held to it too.
    policies = "validatingadmissionpolicy,validatingadmissionpolicybinding"
    kubectl("delete", policies, "-l", f"{NAMESPACE_LABEL}={FIRST}")
    wait_for(lambda: PAT.tries("create", RUNS, run, namespace=FIRST) == "", 120)
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(installed[FIRST]))
    wait_for(lambda: "is one of fineline;" in PAT.tries("create", RUNS, run, namespace=FIRST), 120)


def test_each_template_of_ours_is_one_that_people_may_start(installed: dict[str, Path]) -> None:
    for name, build in BUILDERS.items():
        if build().to_dict()["kind"] == "WorkflowTemplate":
            assert PAT.tries("create", RUNS, run_of(name), namespace=FIRST) == "", name


def test_what_the_commands_do_is_admitted(installed: dict[str, Path]) -> None:
    run = build_run("store", {"recipe": "pet-store", "approval": "true"}).to_dict()
    assert PAT.tries("create", RUNS, run, namespace=FIRST) == ""
    assert PAT.tries("create", SCHEDULES, schedule_of(), namespace=FIRST) == ""
    assert PAT.tries("patch", RUNS, {"spec": {"shutdown": "Stop"}}, namespace=FIRST, name="waiting") == ""
    assert PAT.tries("patch", SCHEDULES, {"spec": {"suspend": False}}, namespace=FIRST, name="retrain") == ""
    assert PAT.tries("delete", RUNS, namespace=FIRST, name="waiting") == ""
    # As Argo's controller writes a new run of a schedule.
    run["status"] = {"startedAt": None, "finishedAt": None, **RESOLVED}
    assert ARGO_CONTROLLER.tries("create", RUNS, run, namespace=FIRST) == ""


def test_whoever_may_submit_sends_resolved_templates(installed: dict[str, Path]) -> None:
    """Argo's UI and its command send them along; a person's own ones would be executed."""
    run = {**run_of("finetune"), "status": RESOLVED}
    for person in (PAT, ANN):
        assert "have the verb submit on workflows granted to Argo's server" in person.tries(
            "create", RUNS, run, namespace=FIRST
        )
    kubectl("create", "role", "submits", "-n", FIRST, "--verb=create,submit", "--resource=workflows.argoproj.io")
    server = Person("system:serviceaccount:argo:argo-server")
    binding = ["create", "rolebinding", "submits", "-n", FIRST, "--role=submits"]
    kubectl(*binding, "--serviceaccount=argo:argo-server")
    try:
        wait_for(lambda: server.tries("create", RUNS, run, namespace=FIRST) == "", 120)
        stored = {**run, "status": STORED}
        assert "a new run has no status" in server.tries("create", RUNS, stored, namespace=FIRST)
    finally:
        kubectl("delete", "role,rolebinding", "submits", "-n", FIRST)


STORED = {"storedWorkflowTemplateSpec": {"entrypoint": "rollout", "serviceAccountName": "fineline-provision"}}
RESOLVED = {"storedTemplates": {"namespaced/finetune/plan": {"name": "plan"}}}
PASSED = {"nodes": {"n": {"phase": "Succeeded"}}}


def test_what_a_run_executes_and_found_is_written_by_argo_alone(installed: dict[str, Path]) -> None:
    """A Workflow's status is no subresource: whoever may patch a run could write what it executes."""
    run = run_of("finetune")
    assert "a new run has no status" in PAT.tries("create", RUNS, {**run, "status": STORED}, namespace=FIRST)

    def change(person: Person, status: dict[str, Any]) -> str:
        return person.tries("patch", RUNS, {"status": status}, namespace=FIRST, name="waiting")

    assert "bind the role fineline-approver" in change(PAT, PASSED)
    assert "bind the role fineline-approver" in change(PAT, STORED)
    assert "bind the role fineline-approver" in change(account("fineline-provision"), STORED)
    assert change(account("fineline-provision"), {"nodes": {"n": {"phase": "Running"}}}) == ""  # it changes nothing
    assert change(ANN, PASSED) == ""
    assert "only Argo's controller changes what a run executes" in change(ANN, STORED)
    assert "only Argo's controller changes what a run executes" in change(
        ANN, {"storedTemplates": {"a": {"name": "a"}}}
    )
    assert change(ARGO_CONTROLLER, STORED) == ""


# What admission refuses of pods


def pod(account: str = "", owner: str = "", **spec: Any) -> dict[str, Any]:
    security = SECURITY.model_dump(by_alias=True, exclude_none=True)
    own = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "waiting", "uid": "1", "controller": True}
    owners = {"workflow": [own], "held": [{**own, "controller": False}], "other": [{**own, "apiVersion": "x/v1"}]}
    return {
        "metadata": {"name": "tried", "ownerReferences": owners.get(owner, [])},
        "spec": {
            **({"serviceAccountName": account} if account else {}),
            "automountServiceAccountToken": False,
            "securityContext": POD_SECURITY.model_dump(by_alias=True, exclude_none=True),
            "containers": [{"name": "main", "image": "x", "securityContext": security}],
            **spec,
        },
    }


def workload(kind: str, account: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod(account)["spec"]}
    job = {"template": {"spec": {**pod(account)["spec"], "restartPolicy": "Never"}}}
    spec: dict[str, Any] = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    if kind == "jobs":
        spec = job
    if kind == "cronjobs":
        spec = {"schedule": "@daily", "jobTemplate": {"spec": job}}
    if kind == "replicationcontrollers":
        spec = {"template": template}
    if kind == "statefulsets":
        spec["serviceName"] = "x"
    if kind == "podtemplates":
        return {"metadata": {"name": "tried"}, "template": template}
    return {"metadata": {"name": "tried"}, "spec": spec}


STEPS = ("fineline-executor", "fineline-step", "fineline-pull", "fineline-rollout", "fineline-provision")
WORKLOADS = (
    "deployments.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "replicasets.apps",
    "jobs.batch",
    "cronjobs.batch",
    "replicationcontrollers",
    "podtemplates",
)
ONLY_ARGO = "only Argo starts pods with the account "


@pytest.mark.parametrize("name", STEPS)
def test_argo_alone_starts_pods_with_our_accounts_for_runs(name: str, installed: dict[str, Path]) -> None:
    def create(person: Person, **given: Any) -> str:
        return person.tries("create", "pods", pod(name, **given), namespace=FIRST)

    assert create(ARGO_CONTROLLER, owner="workflow") == ""
    assert create(ARGO_CONTROLLER) != ""
    assert create(ARGO_CONTROLLER, owner="held") != ""
    assert create(ARGO_CONTROLLER, owner="other") != ""
    assert ONLY_ARGO in create(EDITOR, owner="workflow")
    assert ONLY_ARGO in create(ADMIN)
    assert ONLY_ARGO in create(REPLICA_SETS)
    assert "what a step creates has no account" in create(account("fineline-provision"), owner="workflow")
    assert "cannot create resource" in create(PAT, owner="workflow")
    assert "cannot create resource" in create(ANN, owner="workflow")


@pytest.mark.parametrize("kind", WORKLOADS)
def test_nothing_that_makes_pods_names_an_account_of_ours(kind: str, installed: dict[str, Path]) -> None:
    for name in STEPS:
        body = workload(kind.partition(".")[0], name)
        assert ONLY_ARGO in ADMIN.tries("create", kind, body, namespace=FIRST), name
    assert ADMIN.tries("create", kind, workload(kind.partition(".")[0], "default"), namespace=FIRST) == ""


def test_a_step_gets_no_further_rights_by_what_it_creates(installed: dict[str, Path]) -> None:
    rollout, provision = account("fineline-rollout"), account("fineline-provision")
    for name in (*STEPS, "fineline-mlflow", "somebody"):
        told = rollout.tries("create", "deployments.apps", workload("deployments", name), namespace=FIRST)
        assert f"what a step creates has no account; remove serviceAccountName: {name}" in told
    secret = {"name": "s", "secret": {"secretName": "fineline-hub"}}
    variable = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "fineline-hub", "key": "token"}}}
    reading: dict[str, Any] = pod()
    reading["spec"]["containers"][0]["env"] = [variable]
    for body in (pod(volumes=[secret]), reading):
        assert "only holds a node" in provision.tries("create", "pods", body, namespace=FIRST)
    assert provision.tries("create", "pods", pod(), namespace=FIRST) == ""


def test_what_rollout_creates_is_admitted(installed: dict[str, Path]) -> None:
    served = deployment(serving(one_node=True))
    assert account("fineline-rollout").tries("create", "deployments.apps", served, namespace=FIRST) == ""
    template = served["spec"]["template"]
    body = {"metadata": {"name": "x", **template["metadata"]}, "spec": template["spec"]}
    assert REPLICA_SETS.tries("create", "pods", body, namespace=FIRST) == ""


def test_mlflows_account_is_for_its_own_pods(installed: dict[str, Path]) -> None:
    listed = kubectl("get", "pods", "-n", SECOND, "-l", "app.kubernetes.io/component=mlflow", "-o", "json").stdout
    assert {one["spec"]["serviceAccountName"] for one in json.loads(listed)["items"]} == {"fineline-mlflow"}
    body = workload("deployments", "fineline-mlflow")
    assert ONLY_ARGO in ADMIN.tries("create", "deployments.apps", body, namespace=SECOND)
    assert ONLY_ARGO in ADMIN.tries("create", "pods", pod("fineline-mlflow", "workflow"), namespace=SECOND)


def test_each_pod_of_ours_is_a_restricted_one(installed: dict[str, Path]) -> None:
    assert get("namespace", FIRST, "")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    root = pod(securityContext={})
    assert 'violates PodSecurity "restricted' in ADMIN.tries("create", "pods", root, namespace=FIRST)
    tried = 0
    for build in BUILDERS.values():
        spec = build().to_dict()["spec"]
        for template in spec.get("templates", []):
            if "script" not in template:
                continue
            main = {key: template["script"][key] for key in ("image", "securityContext")}
            # Argo's own containers have no security context but that of the patch.
            patch = json.loads(spec["podSpecPatch"])
            (wait,), (init,) = patch["containers"], patch["initContainers"]
            containers = [{"name": "main", **main}, {"image": "argoexec", **wait}]
            init = [{"image": "argoexec", **init}]
            given = {"securityContext": spec["securityContext"], "containers": containers, "initContainers": init}
            volumes = [one for one in template.get("volumes", []) if "emptyDir" in one]
            body = pod(template["serviceAccountName"], "workflow", volumes=volumes, **given)
            assert ARGO_CONTROLLER.tries("create", "pods", body, namespace=FIRST) == "", template["name"]
            tried += 1
    assert tried > 10


# What admission refuses of what belongs to the whole cluster


def bought(kind: str, name: str, namespace: str) -> dict[str, Any]:
    labels = {NAMESPACE_LABEL: namespace, RUN_LABEL: "run"} if namespace else {}
    reference = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}
    node = {"nodeClassRef": reference, "requirements": []}
    spec = {"nodepools": {"template": {"spec": node}}, "nodeclaims": node}.get(kind.partition(".")[0], {})
    group = kind.partition(".")[2]
    head = {"apiVersion": f"{group}/v1", "kind": CLUSTER_KINDS[kind]}
    return {**head, "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture(scope="module")
def nodes(installed: dict[str, Path]) -> Iterator[None]:
    """One of each kind for the first and the second namespace."""
    for kind in CLUSTER_KINDS:
        for space, name in ((FIRST, "fineline-mine"), (SECOND, "fineline-theirs")):
            kubectl("apply", "-f", "-", document=bought(kind, name, space))
    yield
    for kind in CLUSTER_KINDS:
        kubectl("delete", kind, "fineline-mine", "fineline-theirs", "--ignore-not-found", "--wait=false")


@pytest.mark.parametrize(
    ("kind", "space"),
    [
        ("nodepools.karpenter.sh", FIRST),
        ("nodeclaims.karpenter.sh", FIRST),
        ("computeclasses.cloud.google.com", SECOND),
    ],
)
def test_provision_touches_what_its_own_namespace_has_bought(kind: str, space: str, nodes: None) -> None:
    provision = account("fineline-provision", space)
    mine, theirs = ("fineline-mine", "fineline-theirs")[:: 1 if space == FIRST else -1]
    other = SECOND if space == FIRST else FIRST
    refused = f"is not of the namespace {space}"
    assert provision.tries("delete", kind, name=mine) == ""
    assert refused in provision.tries("delete", kind, name=theirs)
    if kind.startswith("nodeclaims"):
        return  # it may neither create nor change them
    assert provision.tries("create", kind, bought(kind, "fineline-new", space)) == ""
    assert refused in provision.tries("create", kind, bought(kind, "fineline-new", other))
    assert refused in provision.tries("create", kind, bought(kind, "fineline-new", ""))
    assert "must begin with fineline-" in provision.tries("create", kind, bought(kind, "general", space))
    note = {"metadata": {"annotations": {"a": "b"}}}
    assert provision.tries("patch", kind, note, name=mine) == ""
    assert refused in provision.tries("patch", kind, note, name=theirs)
    for name, label in ((mine, other), (theirs, space)):
        change = {"metadata": {"labels": {NAMESPACE_LABEL: label}}}
        assert refused in provision.tries("patch", kind, change, name=name)
    # Those who are no account of a namespace of ours are none of its business.
    assert ADMIN.tries("delete", kind, name=theirs) == ""


def outside(namespace: str) -> dict[str, str]:
    """Return the version of each object outside a namespace that belongs to it."""
    selector = ["-l", f"{NAMESPACE_LABEL}={namespace}", "-o", "json"]
    found = json.loads(kubectl("get", OUTSIDE, *selector).stdout)["items"]
    found += json.loads(kubectl("get", "role,rolebinding", "-n", "default", *selector).stdout)["items"]
    found += json.loads(kubectl("get", ",".join(CLUSTER_KINDS), *selector).stdout)["items"]
    return {f"{one['kind']} {one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in found}


def test_a_second_namespace_is_installed_and_removed_without_a_trace_in_the_first(
    nodes: None, installed: dict[str, Path]
) -> None:
    """The last test: it removes the second namespace."""
    before, theirs = outside(FIRST), outside(SECOND)
    assert {name.partition(".")[2] for name in before if "fineline-mine" not in name} == {FIRST}
    assert len(before) > 10
    assert before.keys().isdisjoint(theirs)
    kubectl("apply", "--server-side", "-k", str(installed[SECOND]))
    assert outside(FIRST) == before
    uninstall(installed[SECOND])
    assert outside(FIRST) == before
    assert not {name for name in outside(SECOND) if "fineline-theirs" not in name}
    kubectl("delete", "role", "argo", "-n", FIRST)
    assert get("namespace", FIRST, "")["status"]["phase"] == "Active"
    uninstall(installed[FIRST])
    assert not {name for name in outside(FIRST) if "fineline-mine" not in name}
