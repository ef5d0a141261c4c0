"""What a step runs in on a cluster: image, account, volumes, security, deadline, retries. One machine needs none of it."""

from collections.abc import Callable, Sequence
from typing import Any

from hera.workflows import (
    Artifact,
    ConfigMapEnvFrom,
    ConfigMapVolume,
    EmptyDirVolume,
    Env,
    ExistingVolume,
    FieldEnv,
    Resources,
    RetryStrategy,
    SecretEnv,
    script,
)
from hera.workflows import models as m
from hera.workflows.retry_strategy import RetryPolicy

from pipelines.workflows.parameters import PLACED, reference
from steps.common.runtime import certificates
from steps.common.runtime.cluster_settings import API_KEY_SECRET_SETTING, API_KEY_SETTING
from steps.common.storage.volumes import RUNS_SETTING, WEIGHTS_SETTING
from steps.pull.step import pull

VERSION = "0.1.0"
CONTROL_IMAGE, TUNE_IMAGE = f"fineline-control:{VERSION}", f"fineline-tune:{VERSION}"
WEIGHTS_MOUNT, RUNS_MOUNT = "/weights", "/runs"
# What may do what: all report their outputs to Argo; rollout besides that Deployments and Services. provision and release
# have an account of their own, so that what buys nodes can be allowed to them alone.
STEP_ACCOUNT, ROLLOUT_ACCOUNT = "fineline-step", "fineline-rollout"
PROVISION_ACCOUNT = RELEASE_ACCOUNT = "fineline-provision"
PULL_ACCOUNT = "fineline-pull"  # may write Leases, by which one pod at a time fetches a model
SETTINGS = "fineline"  # the ConfigMap of a namespace's settings
USER = 1000
PART_OF, STEP_LABEL, REACHES_LABEL = "app.kubernetes.io/part-of", "fineline.dev/step", "fineline.dev/reaches"

DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"  # Karpenter moves no pod of a training to save a node
MOUNTS_LABEL = "fineline.dev/mounts"  # a pod that mounts the volumes; one-node overlays keep these together


Setting = Env | SecretEnv | FieldEnv


def secret(setting: str, of: str, key: str) -> SecretEnv:
    """Return a setting whose value is a Secret's, where there is such a Secret."""
    return SecretEnv(name=setting, secret_name=f"{reference('secrets')}-{of}", secret_key=key, optional=True)


HUB: list[Setting] = [secret("HF_TOKEN", "hub", "token")]
OBJECT_STORE: list[Setting] = [
    secret(setting, "object-store", setting)
    for setting in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
        "AZURE_STORAGE_ACCOUNT",
        "AZURE_STORAGE_KEY",
    )
]
MLFLOW: list[Setting] = [
    secret("MLFLOW_TRACKING_USERNAME", "mlflow", "username"),
    secret("MLFLOW_TRACKING_PASSWORD", "mlflow", "password"),
]
API_KEY: list[Setting] = [
    secret(API_KEY_SETTING, "api-key", "key"),
    # By its name the served model's pods get it too.
    Env(name=API_KEY_SECRET_SETTING, value=f"{reference('secrets')}-api-key"),
]
NODE = FieldEnv(name="FINELINE_NODE", field_path="spec.nodeName")
WEBHOOK: list[Setting] = [secret("FINELINE_WEBHOOK", "webhook", "url")]

CERTIFICATES = ConfigMapVolume(
    name="fineline-certificates",
    mount_path=str(certificates.FOLDER),
    optional=True,
    read_only=True,
)

# Again where the pod was lost and not the step: deleted, evicted, preempted, its node shut down, told to end and ended in
# good order (75), or killed (137) other than for its memory. A mistake of the user's (2), a refusal (3) and a fault (1)
# are not tried again. `cap` bounds the wait; `max_duration` would count from the first attempt's start and forbid the
# retry of every long step.
LOST = (
    "lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [75, 143] || "
    "(asInt(lastRetry.exitCode) == 137 && !(lastRetry.message contains 'OOMKilled')) || "
    "lastRetry.message matches 'imminent node shutdown|pod deleted|[Ee]vict|[Pp]reempt'"
)
BACKOFF = m.Backoff(duration="10s", factor=m.IntOrString(root=2), cap="5m")

SECURITY = m.SecurityContext(
    run_as_non_root=True,
    allow_privilege_escalation=False,
    read_only_root_filesystem=True,
    capabilities=m.Capabilities(drop=["ALL"]),
)
POD_SECURITY = m.PodSecurityContext(
    run_as_non_root=True,
    run_as_user=USER,
    run_as_group=USER,
    fs_group=USER,
    seccomp_profile=m.SeccompProfile(type="RuntimeDefault"),
)


def _claims(writes_weights: bool) -> list[ExistingVolume]:
    return [
        ExistingVolume(
            name="weights", claim_name="fineline-weights", mount_path=WEIGHTS_MOUNT, read_only=not writes_weights
        ),
        ExistingVolume(name="runs", claim_name="fineline-runs", mount_path=RUNS_MOUNT),
    ]


def container(
    function: Callable[..., Any],
    image: str,
    *,
    hours: int,
    memory: str,
    account: str = STEP_ACCOUNT,
    losses: int = 10,
    of_a_run: bool = True,
    writes_weights: bool = False,
    reaches_out: bool = False,
    placed: bool = False,
    environment: Sequence[Setting] = (),
    artifacts: Sequence[Artifact] = (),
) -> Any:
    """Wrap a step's plain function for a place in a workflow.

    Args:
        function: the step.
        image: what it runs in.
        hours: longest time of one attempt.
        memory: what its pod asks for, as a Kubernetes quantity.
        account: service account of its pod.
        losses: how many pods of it may be lost before the run fails.
        of_a_run: it mounts the volumes, and gets MLflow's Secret.
        writes_weights: mount the weights volume for writing, as only pull needs it.
        reaches_out: it fetches models or data: the network policies let its pod leave the cluster, and it gets the
            Secrets of the hub and the object store.
        placed: its pod goes where its input `placement` says, to the node that the run has got.
        environment: settings besides the volumes' places and MLflow's.
        artifacts: files that Argo keeps, where it has a repository for them.
    """
    labels = {PART_OF: "fineline", STEP_LABEL: function.__name__}
    volumes: list[Any] = [EmptyDirVolume(name="tmp", mount_path="/tmp")]
    settings: list[Setting] = []
    if of_a_run:
        labels[MOUNTS_LABEL] = "volumes"
        volumes = [*_claims(writes_weights), *volumes]
        settings = [Env(name=WEIGHTS_SETTING, value=WEIGHTS_MOUNT), Env(name=RUNS_SETTING, value=RUNS_MOUNT), *MLFLOW]
    if reaches_out:
        labels[REACHES_LABEL] = "internet"
        volumes.append(CERTIFICATES)
        environment = [*environment, *HUB, *OBJECT_STORE]
    if placed:
        environment = [*environment, NODE]
    return script(
        constructor="runner",
        labels=labels,
        annotations={DO_NOT_DISRUPT: "true"} if placed else None,
        pod_spec_patch=PLACED if placed else None,
        image=image,
        image_pull_policy="IfNotPresent",
        service_account_name=account,
        volumes=volumes,
        env=[*settings, *environment],
        outputs=list(artifacts),
        env_from=[ConfigMapEnvFrom(name=SETTINGS, optional=True)],
        resources=Resources(cpu_request="100m", memory_request=memory),
        active_deadline_seconds=hours * 3600,
        retry_strategy=RetryStrategy(limit=losses, retry_policy=RetryPolicy.always, expression=LOST, backoff=BACKOFF),
        security_context=SECURITY,
    )(function)


def pull_container() -> Any:
    """Wrap the pull step, which several workflows have."""
    return container(
        pull, TUNE_IMAGE, hours=12, memory="512Mi", account=PULL_ACCOUNT, writes_weights=True, reaches_out=True
    )
