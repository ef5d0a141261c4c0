"""The container of a step in a cluster: image, account, volumes, security, deadline, retries. One machine ignores it."""

from collections.abc import Callable, Collection, Sequence
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

from pipelines.workflows.step_pods.pod_patch import PLACED
from steps.common.runtime import certificates
from steps.common.runtime.cluster_settings import API_KEY_SETTING
from steps.common.storage.volumes import RUNS_SETTING, WEIGHTS_SETTING
from steps.pull.step import pull

VERSION = "0.1.0"
CONTROL_IMAGE, TUNE_IMAGE = f"fineline-control:{VERSION}", f"fineline-tune:{VERSION}"
WEIGHTS_MOUNT, RUNS_MOUNT = "/weights", "/runs"
WEIGHTS, RUNS = "weights", "runs"  # the volumes
MOUNTS = {WEIGHTS: WEIGHTS_MOUNT, RUNS: RUNS_MOUNT}
MOUNT_SETTINGS = {WEIGHTS: WEIGHTS_SETTING, RUNS: RUNS_SETTING}
# The account of Argo's containers beside a step, the only one that may report outputs. The step itself does not have its token.
EXECUTOR_ACCOUNT = "fineline-executor"
# rollout may manage Deployments and Services. provision and release have their own account, so that only they can be allowed
# to buy nodes.
STEP_ACCOUNT, ROLLOUT_ACCOUNT = "fineline-step", "fineline-rollout"
PROVISION_ACCOUNT = RELEASE_ACCOUNT = "fineline-provision"
PLAN_ACCOUNT = "fineline-plan"  # may read the nodes, with the component gpu-nodes
PULL_ACCOUNT = "fineline-pull"  # may write Leases, so that one pod at a time downloads a model
PRUNE_ACCOUNT = "fineline-prune"  # may list Deployments and Workflows, so that it deletes nothing that they name
SETTINGS = "fineline"  # ConfigMap with the settings of a namespace
USER = 1000
PULL_HOURS = 12
PART_OF, STEP_LABEL, REACHES_LABEL = "app.kubernetes.io/part-of", "fineline.dev/step", "fineline.dev/reaches"

DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"  # Karpenter does not move training pods to consolidate nodes
MOUNTS_LABEL = "fineline.dev/mounts"  # a pod that mounts the volumes; the component one-node keeps these on one node


Setting = Env | SecretEnv | FieldEnv


def secret(setting: str, of: str, key: str) -> SecretEnv:
    """Return a setting with a value from a Secret, which may be missing."""
    return SecretEnv(
        name=setting, secret_name=f"{{{{workflow.parameters.secrets}}}}-{of}", secret_key=key, optional=True
    )


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
# Of the resolved recipe's Secrets, which the input `secrets` names: a rollback serves with the key of the version's recipe.
API_KEY: list[Setting] = [
    SecretEnv(
        name=API_KEY_SETTING, secret_name="{{inputs.parameters.secrets}}-api-key", secret_key="key", optional=True
    ),
]
NODE = FieldEnv(name="FINELINE_NODE", field_path="spec.nodeName")
WEBHOOK: list[Setting] = [secret("FINELINE_WEBHOOK", "webhook", "url")]

CERTIFICATES = ConfigMapVolume(
    name="fineline-certificates",
    mount_path=str(certificates.FOLDER),
    optional=True,
    read_only=True,
)

# Retry if the pod was lost: deleted, evicted, preempted, its node shut down, terminated with an orderly exit (75), or killed
# (137) for a reason other than memory. Do not retry after a user's mistake (2), a refusal (3) or a fault (1), nor once the
# step's deadline has passed: then the kubelet ends the pod as if it were lost, with the same exit codes, and only the
# message tells. `cap` limits the wait; `max_duration` would count from the start of the first attempt and rule out retries
# of long steps.
LOST = (
    "!(lastRetry.message contains 'longer than the specified deadline') && ("
    "lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [75, 143] || "
    "(asInt(lastRetry.exitCode) == 137 && !(lastRetry.message contains 'OOMKilled')) || "
    "lastRetry.message matches 'imminent node shutdown|pod deleted|[Ee]vict|[Pp]reempt')"
)
BACKOFF = m.Backoff(duration="10s", factor=m.IntOrString(root=2), cap="5m")

CPU_REQUEST, CPU_LIMIT = "100m", "8"
MEMORY_LIMIT = "2Gi"

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


def _claims(mounts: Collection[str], writes_weights: bool) -> list[ExistingVolume]:
    return [
        ExistingVolume(
            name=name,
            claim_name=f"fineline-{name}",
            mount_path=MOUNTS[name],
            read_only=not writes_weights if name == WEIGHTS else None,
        )
        for name in mounts
    ]


def container(
    function: Callable[..., Any],
    image: str,
    *,
    hours: int,
    memory: str,
    memory_limit: str = MEMORY_LIMIT,
    account: str = STEP_ACCOUNT,
    losses: int = 10,
    mounts: Collection[str] = (WEIGHTS, RUNS),
    asks_registry: bool = True,
    writes_weights: bool = False,
    reaches_out: bool = False,
    placed: bool = False,
    environment: Sequence[Setting] = (),
    artifacts: Sequence[Artifact] = (),
) -> Any:
    """Wrap the function of a step as a task of a workflow.

    Args:
        function: the step.
        image: image of the container.
        hours: time limit of one attempt.
        memory: memory request of the pod, as a Kubernetes quantity; that of a placed step comes with its placement.
        memory_limit: likewise.
        account: service account of the pod. Its token is for steps with an account of their own: the others may do nothing.
        losses: how many pods may be lost before the run fails.
        mounts: the volumes that it mounts.
        asks_registry: whether it gets MLflow's login.
        writes_weights: whether it mounts the weights volume for writing, which only pull needs.
        reaches_out: whether it downloads models or data: the network policies let its pod leave the cluster, and it gets the
            Secrets of the hub and the object store.
        placed: whether its input `placement` places its pod on the run's node, and says what it takes of the node.
        environment: further settings.
        artifacts: files that Argo stores if it has an artifact repository.
    """
    labels = {PART_OF: "fineline", STEP_LABEL: function.__name__}
    volumes: list[Any] = [EmptyDirVolume(name="tmp", mount_path="/tmp")]
    settings: list[Setting] = []
    if mounts:
        labels[MOUNTS_LABEL] = "volumes"
        volumes = [*_claims(mounts, writes_weights), *volumes]
        settings = [Env(name=MOUNT_SETTINGS[name], value=MOUNTS[name]) for name in mounts]
    if asks_registry:
        settings = [*settings, *MLFLOW]
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
        automount_service_account_token=False if account == STEP_ACCOUNT else None,
        volumes=volumes,
        env=[*settings, *environment],
        outputs=list(artifacts),
        env_from=[ConfigMapEnvFrom(name=SETTINGS, optional=True)],
        resources=Resources(
            cpu_request=CPU_REQUEST, cpu_limit=CPU_LIMIT, memory_request=memory, memory_limit=memory_limit
        ),
        active_deadline_seconds=hours * 3600,
        retry_strategy=RetryStrategy(limit=losses, retry_policy=RetryPolicy.always, expression=LOST, backoff=BACKOFF),
        security_context=SECURITY,
    )(function)


def pull_container() -> Any:
    """Wrap the pull step, which several workflows share."""
    return container(
        pull,
        TUNE_IMAGE,
        hours=PULL_HOURS,
        memory="512Mi",
        memory_limit="4Gi",
        account=PULL_ACCOUNT,
        writes_weights=True,
        reaches_out=True,
    )
