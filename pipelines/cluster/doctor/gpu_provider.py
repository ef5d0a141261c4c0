"""Who brings GPU nodes for runs, and whether it can."""

from typing import Any

from pipelines.cluster.config_map import setting
from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown
from pipelines.workflows import reaper
from pipelines.workflows.containers import PROVISION_ACCOUNT, STEP_ACCOUNT
from steps.common.kubernetes import client
from steps.common.kubernetes.cluster_objects import COMPUTE_CLASSES, NODE_POOLS
from steps.common.kubernetes.resource import Resource, condition
from steps.common.nodes import node_classes
from steps.common.runtime.cluster_settings import ONE_NODE_SETTING
from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import CLOUD_SETTING, COMPUTE_SETTING, NODE_CLASS_SETTING

ROLE = "fineline-provision"
SUBJECT = "GPU nodes for runs"
KARPENTER_DOCS = "https://karpenter.sh/docs/getting-started/"


def provider(connection: Connection) -> list[Finding]:
    """Tell who brings nodes, and what that lacks."""
    chosen = setting(connection, COMPUTE_SETTING)
    if not chosen:
        text = f"nobody brings any ({COMPUTE_SETTING} is not set): steps run on the nodes that are there, without GPUs"
        return [
            Finding(
                SUBJECT, State.NOTE, text, "add argo/components/karpenter, compute-class or gpu-nodes to your overlay"
            )
        ]
    if chosen in ("karpenter", "compute-class") and setting(connection, ONE_NODE_SETTING):
        text = f"{chosen} brings other nodes, and {ONE_NODE_SETTING} keeps all steps on the one that mounts the volumes"
        remedy = "leave the component one-node out, and give the volumes a StorageClass with ReadWriteMany"
        return [Finding(SUBJECT, State.MISSING, text, remedy)]
    if chosen == "karpenter":
        return [
            *_karpenter(connection),
            *_rights(connection, NODE_POOLS.plural, NODE_POOLS.group, ROLE),
            *_reaper(connection),
        ]
    if chosen == "compute-class":
        return [
            _compute_class(),
            *_rights(connection, COMPUTE_CLASSES.plural, COMPUTE_CLASSES.group, "fineline-compute-class"),
            *_reaper(connection),
        ]
    if chosen == "nodes":
        return [
            Finding(SUBJECT, State.OK, "those that are there are waited for"),
            *_may(connection, STEP_ACCOUNT, ["list"], "nodes", "", "fineline-nodes"),
            *_reaper(connection),
        ]
    return [
        Finding(SUBJECT, State.MISSING, f"{COMPUTE_SETTING} is {chosen!r}", "set karpenter, compute-class or nodes")
    ]


def _compute_class() -> Finding:
    version = client.api_groups().get(COMPUTE_CLASSES.group)
    # The group is there without the kind, too: it holds GKE's BackendConfig.
    if version and COMPUTE_CLASSES.plural in client.resources(COMPUTE_CLASSES.group, version):
        return Finding(SUBJECT, State.OK, f"{COMPUTE_CLASSES.plural}.{COMPUTE_CLASSES.group} is there")
    text = f"the cluster does not know {COMPUTE_CLASSES.plural}.{COMPUTE_CLASSES.group}"
    return Finding(SUBJECT, State.MISSING, text, "GKE 1.30.3 or later has it")


def _karpenter(connection: Connection) -> list[Finding]:
    groups = client.api_groups()
    if NODE_POOLS.group not in groups:
        return [Finding(SUBJECT, State.MISSING, "Karpenter is not there", f"install it: {KARPENTER_DOCS}")]
    if named := setting(connection, NODE_CLASS_SETTING):
        try:
            known = node_classes.by_hand(named, setting(connection, CLOUD_SETTING))
        except UserError as error:
            return [Finding(SUBJECT, State.MISSING, str(error), "mend them in the ConfigMap fineline")]
        return [_classes(known, groups), *_may_list(connection, known)]
    there = next((one for one in node_classes.PROVIDERS if one.group in groups), None)
    if there is None:
        text = "Karpenter has no NodeClass of a cloud that is known"
        return [Finding(SUBJECT, State.MISSING, text, f"set {NODE_CLASS_SETTING}")]
    return [_classes(there, groups), *_may_list(connection, there)]


def _classes(known: node_classes.Provider, groups: dict[str, str]) -> Finding:
    if known.group not in groups:
        text = f"the cluster does not know {known.group}, which {NODE_CLASS_SETTING} names"
        return Finding(SUBJECT, State.MISSING, text, f"set {NODE_CLASS_SETTING} to one that it knows, or leave it out")
    with questions.if_allowed():
        return _class(known.kind, Resource(known.group, known.plural).list())
    return Finding(SUBJECT, State.UNKNOWN, f"Karpenter is there; you may not list its {known.kind}", "")


def _may_list(connection: Connection, known: node_classes.Provider) -> list[Finding]:
    """Tell whether provision may look at the class; one that a user has named is in no role of ours."""
    role = f"fineline-{known.plural}"
    create = f"kubectl create clusterrole {role} --verb=list --resource={known.plural}.{known.group} && "
    of_ours = known in node_classes.PROVIDERS
    return _may(
        connection, PROVISION_ACCOUNT, ["list"], known.plural, known.group, *((ROLE,) if of_ours else (role, create))
    )


def _class(kind: str, found: list[dict[str, Any]]) -> Finding:
    if not found:
        return Finding(SUBJECT, State.MISSING, f"Karpenter has no {kind}", f"create one: {KARPENTER_DOCS}")
    for item in found:
        ready = condition(item, "Ready")
        if ready.get("status") == "False":
            text = f"{kind} {item['metadata']['name']} is not ready: {ready.get('message', '')}"
            return Finding(SUBJECT, State.MISSING, text, f"kubectl describe {kind.lower()} {item['metadata']['name']}")
    return Finding(SUBJECT, State.OK, f"Karpenter, with {kind} {', '.join(item['metadata']['name'] for item in found)}")


def _rights(connection: Connection, plural: str, group: str, role: str) -> list[Finding]:
    return _may(connection, PROVISION_ACCOUNT, ["create", "delete"], plural, group, role)


def _may(
    connection: Connection, account: str, verbs: list[str], plural: str, group: str, role: str, before: str = ""
) -> list[Finding]:
    """Tell what an account may not do with what belongs to no namespace, and the command that lets it.

    Args:
        connection: to the cluster.
        account: whose rights.
        verbs: what it has to be allowed.
        plural: of the kind.
        group: of the kind.
        role: the ClusterRole that allows it.
        before: a command that makes that, where none of ours does.
    """
    with questions.if_allowed():
        lacking = [
            verb
            for verb in verbs
            if not questions.account_may(connection, account, verb, plural, group, cluster_wide=True)
        ]
        if lacking:
            space = connection.namespace
            bind = f"kubectl create clusterrolebinding {role}-{space} --clusterrole={role} --serviceaccount={space}:{account}"
            text = f"{account} may not {', '.join(lacking)} {plural}"
            return [Finding(SUBJECT, State.MISSING, text, before + bind)]
        return []
    return [unknown(SUBJECT, "what other accounts may do")]


def _reaper(connection: Connection) -> list[Finding]:
    with questions.if_allowed():
        cron = connection.get("cronworkflows", reaper.NAME)
        if cron is None or cron["spec"].get("suspend"):
            text = "the reaper is not there: machines of a run that is lost would be paid for on and on"
            return [
                Finding(SUBJECT, State.MISSING, text, "add argo/components/karpenter or compute-class to your overlay")
            ]
        return []
    return [unknown(SUBJECT, "CronWorkflows")]
