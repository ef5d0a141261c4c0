"""Who brings GPU nodes for runs, and whether it can."""

from typing import Any

from pipelines import reaper
from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown
from pipelines.cluster.settings import setting
from steps.common.cluster import ONE_NODE_SETTING
from steps.common.kinds import CLASSES, POOLS, condition
from steps.common.node_classes import PROVIDERS
from steps.common.settings import COMPUTE_SETTING, NODE_CLASS_SETTING

ACCOUNT = "fineline-provision"
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
        return [_karpenter(connection), *_rights(connection, "nodepools", POOLS.group), *_reaper(connection)]
    if chosen == "compute-class":
        found = _served(CLASSES.group, "GKE 1.30.3 or later has it")
        return [found, *_rights(connection, "computeclasses", CLASSES.group), *_reaper(connection)]
    if chosen == "nodes":
        return [Finding(SUBJECT, State.OK, "those that are there are waited for"), *_reaper(connection)]
    return [
        Finding(SUBJECT, State.MISSING, f"{COMPUTE_SETTING} is {chosen!r}", "set karpenter, compute-class or nodes")
    ]


def _served(group: str, remedy: str) -> Finding:
    if group in questions.api_groups():
        return Finding(SUBJECT, State.OK, f"{group} is there")
    return Finding(SUBJECT, State.MISSING, f"the cluster does not know {group}", remedy)


def _karpenter(connection: Connection) -> Finding:
    groups = questions.api_groups()
    if POOLS.group not in groups:
        return Finding(SUBJECT, State.MISSING, "Karpenter is not there", f"install it: {KARPENTER_DOCS}")
    known = next((one for one in PROVIDERS if one.group in groups), None)
    if known is None:
        named = setting(connection, NODE_CLASS_SETTING)
        if named:
            return Finding(SUBJECT, State.OK, f"Karpenter, with {named}")
        return Finding(
            SUBJECT, State.MISSING, "Karpenter has no NodeClass of a cloud that is known", f"set {NODE_CLASS_SETTING}"
        )
    with questions.if_allowed():
        return _class(known.kind, questions.cluster_objects(known.group, groups[known.group], known.plural))
    return Finding(SUBJECT, State.UNKNOWN, f"Karpenter is there; you may not list its {known.kind}", "")


def _class(kind: str, found: list[dict[str, Any]]) -> Finding:
    if not found:
        return Finding(SUBJECT, State.MISSING, f"Karpenter has no {kind}", f"create one: {KARPENTER_DOCS}")
    for item in found:
        ready = condition(item, "Ready")
        if ready.get("status") == "False":
            text = f"{kind} {item['metadata']['name']} is not ready: {ready.get('message', '')}"
            return Finding(SUBJECT, State.MISSING, text, f"kubectl describe {kind.lower()} {item['metadata']['name']}")
    return Finding(SUBJECT, State.OK, f"Karpenter, with {kind} {', '.join(item['metadata']['name'] for item in found)}")


def _rights(connection: Connection, plural: str, group: str) -> list[Finding]:
    with questions.if_allowed():
        lacking = [
            verb
            for verb in ("create", "delete")
            if not questions.account_may(connection, ACCOUNT, verb, plural, group, cluster_wide=True)
        ]
        if lacking:
            space = connection.namespace
            bind = (
                f"kubectl create clusterrolebinding fineline-provision-{space} --clusterrole=fineline-provision "
                f"--serviceaccount={space}:{ACCOUNT}"
            )
            return [Finding(SUBJECT, State.MISSING, f"{ACCOUNT} may not {', '.join(lacking)} {plural}", bind)]
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
