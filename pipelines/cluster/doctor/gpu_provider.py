"""Checks who provides GPU nodes for runs, and whether it can."""

from typing import Any

from pipelines.cluster.config_map import setting
from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown
from pipelines.workflows import reaper
from pipelines.workflows.step_pods.containers import PLAN_ACCOUNT, PROVISION_ACCOUNT
from steps.common.kubernetes import client
from steps.common.kubernetes.cluster_objects import COMPUTE_CLASSES, NODE_POOLS
from steps.common.kubernetes.resource import Resource, condition
from steps.common.nodes import node_classes
from steps.common.nodes.node_provider import PROVIDERS, NodeProvider, node_provider
from steps.common.runtime.cluster_settings import ONE_NODE_SETTING
from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import CLOUD_SETTING, COMPUTE_SETTING, NODE_CLASS_SETTING

SUBJECT = "GPU nodes for runs"
KARPENTER_DOCS = "https://karpenter.sh/docs/getting-started/"


def provider(connection: Connection) -> list[Finding]:
    """Check who provides GPU nodes, and what it lacks."""
    try:
        chosen = node_provider(setting(connection, COMPUTE_SETTING))
    except UserError as error:
        return [Finding(SUBJECT, State.MISSING, str(error), "correct it in the ConfigMap fineline")]
    if chosen is None:
        text = f"no provider ({COMPUTE_SETTING} is not set): steps run on the cluster's nodes, without GPUs"
        components = [f"argo/components/{traits.component}" for traits in PROVIDERS.values()]
        remedy = f"add {', '.join(components[:-1])} or {components[-1]} to your overlay"
        return [Finding(SUBJECT, State.NOTE, text, remedy)]
    traits = PROVIDERS[chosen]
    if traits.buys and setting(connection, ONE_NODE_SETTING):
        text = f"{chosen} adds nodes, but {ONE_NODE_SETTING} keeps all steps on the one node that mounts the volumes"
        remedy = "remove the component one-node, and use a StorageClass with ReadWriteMany for the volumes"
        return [Finding(SUBJECT, State.MISSING, text, remedy)]
    if chosen is NodeProvider.EXISTING_NODES:
        found = [Finding(SUBJECT, State.OK, "the cluster's own; runs wait until one is free")]
        found += _permissions(
            connection, PLAN_ACCOUNT, ["list"], Resource("", "nodes"), traits.cluster_role_of(connection.namespace)
        )
        return [*found, *_reaper(connection)]
    found = _karpenter(connection) if chosen is NodeProvider.KARPENTER else [_compute_class()]
    kind = NODE_POOLS if chosen is NodeProvider.KARPENTER else COMPUTE_CLASSES
    found += _permissions(
        connection, PROVISION_ACCOUNT, ["create", "delete"], kind, traits.cluster_role_of(connection.namespace)
    )
    return [*found, *_reaper(connection)]


def _compute_class() -> Finding:
    name = f"{COMPUTE_CLASSES.plural}.{COMPUTE_CLASSES.group}"
    # The group may exist without the kind: it also holds GKE's BackendConfig.
    if COMPUTE_CLASSES.exists:
        return Finding(SUBJECT, State.OK, f"the cluster has {name}")
    return Finding(SUBJECT, State.MISSING, f"the cluster has no {name}", "upgrade to GKE 1.30.3 or later")


def _karpenter(connection: Connection) -> list[Finding]:
    groups = client.api_groups()
    if NODE_POOLS.group not in groups:
        return [Finding(SUBJECT, State.MISSING, "Karpenter is not installed", f"install it: {KARPENTER_DOCS}")]
    if named := setting(connection, NODE_CLASS_SETTING):
        try:
            known = node_classes.kind_from_settings(named, setting(connection, CLOUD_SETTING))
        except UserError as error:
            return [Finding(SUBJECT, State.MISSING, str(error), "correct them in the ConfigMap fineline")]
        return [_classes(known), *_may_list(connection, known)]
    existing = next((one for one in node_classes.KNOWN_KINDS if one.group in groups), None)
    if existing is None:
        text = "Karpenter has no NodeClass of a known cloud"
        return [Finding(SUBJECT, State.MISSING, text, f"set {NODE_CLASS_SETTING}")]
    return [_classes(existing), *_may_list(connection, existing)]


def _classes(known: node_classes.NodeClassKind) -> Finding:
    if known.group not in client.api_groups():
        text = f"the cluster has no API group {known.group}, which {NODE_CLASS_SETTING} names"
        return Finding(SUBJECT, State.MISSING, text, f"set {NODE_CLASS_SETTING} to a kind that exists, or remove it")
    with questions.if_allowed():
        return _class(known.kind, Resource(known.group, known.plural).list())
    return Finding(SUBJECT, State.UNKNOWN, f"Karpenter is installed; you may not list its {known.kind}", "")


def _may_list(connection: Connection, known: node_classes.NodeClassKind) -> list[Finding]:
    """Check that provision may list the NodeClass; a kind that a user has named is in none of Fineline's roles."""
    kind = Resource(known.group, known.plural)
    if known in node_classes.KNOWN_KINDS:
        role = PROVIDERS[NodeProvider.KARPENTER].cluster_role_of(connection.namespace)
        return _permissions(connection, PROVISION_ACCOUNT, ["list"], kind, role)
    role = f"fineline-{known.plural}.{connection.namespace}"
    create = f"kubectl create clusterrole {role} --verb=list --resource={known.plural}.{known.group} && "
    return _permissions(connection, PROVISION_ACCOUNT, ["list"], kind, role, create)


def _class(kind: str, found: list[dict[str, Any]]) -> Finding:
    if not found:
        return Finding(SUBJECT, State.MISSING, f"Karpenter has no {kind}", f"create one: {KARPENTER_DOCS}")
    for item in found:
        ready = condition(item, "Ready")
        if ready.get("status") == "False":
            text = f"{kind} {item['metadata']['name']} is not ready: {ready.get('message', '')}"
            return Finding(SUBJECT, State.MISSING, text, f"kubectl describe {kind.lower()} {item['metadata']['name']}")
    return Finding(SUBJECT, State.OK, f"Karpenter, with {kind} {', '.join(item['metadata']['name'] for item in found)}")


def _permissions(
    connection: Connection, account: str, verbs: list[str], kind: Resource, role: str, before: str = ""
) -> list[Finding]:
    """Check an account's permissions on a kind of the whole cluster, and return the command that grants those it lacks.

    Args:
        connection: to the cluster.
        account: the service account.
        verbs: that it needs.
        kind: of the objects.
        role: the ClusterRole that grants them.
        before: a command that creates that role, if Fineline has none.
    """
    with questions.if_allowed():
        lacking = [
            verb
            for verb in verbs
            if not questions.account_may(connection, account, verb, kind.plural, kind.group, cluster_wide=True)
        ]
        if lacking:
            space = connection.namespace
            bind = f"kubectl create clusterrolebinding {role} --clusterrole={role} --serviceaccount={space}:{account}"
            text = f"{account} may not {', '.join(lacking)} {kind.plural}"
            return [Finding(SUBJECT, State.MISSING, text, before + bind)]
        return []
    return [unknown(SUBJECT, "the permissions of service accounts")]


def _reaper(connection: Connection) -> list[Finding]:
    with questions.if_allowed():
        cron = connection.get("cronworkflows", reaper.NAME)
        if cron is None or cron["spec"].get("suspend"):
            text = "the reaper does not run: nodes of a run that is lost would be paid for indefinitely"
            components = "argo/components/karpenter or compute-class"
            return [Finding(SUBJECT, State.MISSING, text, f"add {components} to your overlay")]
        return []
    return [unknown(SUBJECT, "CronWorkflows")]
