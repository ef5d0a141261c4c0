"""Checks that what people and steps may start is limited: by the admission policies, and by the namespace's Pod Security."""

from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import INSTALL, Finding, State, unknown
from pipelines.workflows import rollback

SUBJECT = "admission"
ENFORCE, RESTRICTED = "pod-security.kubernetes.io/enforce", "restricted"
NOBODYS_PREFIX = "fineline-nobody"  # of Secrets; no installation allows it


def admission(connection: Connection) -> list[Finding]:
    """Try a run that the policies refuse, without creating it, and read the namespace's label."""
    return [_policies(connection), _pod_security(connection)]


def _policies(connection: Connection) -> Finding:
    """Try to start a run past the gate, and one with the Secrets of others."""
    template = {"workflowTemplateRef": {"name": rollback.NAME}}
    secrets = {"parameters": [{"name": "secrets", "value": NOBODYS_PREFIX}]}
    with questions.if_allowed():
        for tried, may in (
            ({"entrypoint": "rollout"}, "a run may begin at any step"),
            ({"arguments": secrets}, "a run may read any Secret"),
        ):
            if questions.would_create_run(connection, {**template, **tried}):
                text = f"{may}: a ValidatingAdmissionPolicy of this namespace is missing"
                return Finding(SUBJECT, State.MISSING, text, INSTALL)
        return Finding(SUBJECT, State.OK, "runs start from Fineline's templates, as they are")
    return unknown(SUBJECT, "Workflows, or create one")


def _pod_security(connection: Connection) -> Finding:
    with questions.if_allowed():
        space = connection.namespace
        if connection.core.read_namespace(space).metadata.labels.get(ENFORCE) == RESTRICTED:
            return Finding(SUBJECT, State.OK, "the namespace admits restricted pods only")
        remedy = f"kubectl label namespace {space} {ENFORCE}={RESTRICTED} --overwrite"
        return Finding(SUBJECT, State.MISSING, f"the namespace's label {ENFORCE} is not {RESTRICTED}", remedy)
    return unknown(SUBJECT, "namespaces")
