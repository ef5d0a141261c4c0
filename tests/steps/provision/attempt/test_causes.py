"""Why a node did not come, from the messages of Karpenter and the clouds, and what the user is told to do."""

import pytest

from steps.common.handover.resolved import Device, Rung
from steps.provision.attempt.causes import Cause, classify, next_step

# As users see them: from the providers' code and their issues.
SAID = [
    (
        Cause.QUOTA,
        "NodeClaim fineline-a-1 event: creating instance, insufficient capacity, with fleet error(s), VcpuLimitExceeded: You "
        "have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket that the "
        "specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an "
        "adjustment to this limit.",
    ),
    (Cause.QUOTA, "with fleet error(s), MaxSpotInstanceCountExceeded: Max spot instance count exceeded"),
    (
        Cause.QUOTA,
        "SubscriptionQuotaReached: subscription level Standard NCADSA100v4 Family vCPUs quota for Standard_NC24ads_A100_v4 "
        "has been reached (may try provision an alternative instance type)",
    ),
    (
        Cause.QUOTA,
        "OperationNotAllowed: Operation could not be completed as it results in exceeding approved NCADSA100v4 Cores quota",
    ),
    (Cause.QUOTA, "Quota 'NVIDIA_L4_GPUS' exceeded. Limit: 0.0 in region us-central1."),
    (
        Cause.CAPACITY,
        "insufficient capacity, with fleet error(s), InsufficientInstanceCapacity: We currently do not have sufficient "
        "p5.48xlarge capacity in the Availability Zone you requested (us-east-1a).",
    ),
    (Cause.CAPACITY, "UnfulfillableCapacity: Unable to fulfill capacity due to your request configuration."),
    (
        Cause.CAPACITY,
        "ZonalAllocationFailure: Allocation failed. We do not have sufficient capacity for the requested VM size",
    ),
    (Cause.CAPACITY, "SKUNotAvailable: the requested SKU is unavailable for instance type Standard_NC40ads_H100_v5"),
    (Cause.CAPACITY, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS: The zone does not have enough resources available"),
    (Cause.CAPACITY, "all requested instance types were unavailable during launch"),
    (
        Cause.CAPACITY,
        "Failed to schedule pod, no instance type has the required offering, requirements=karpenter.sh/nodepool In [a]",
    ),
    (Cause.CAPACITY, "Failed to schedule pod, nodepool requirements filtered out all available instance types"),
    (Cause.CONFIGURATION, "Failed to schedule pod, all available instance types exceed limits for nodepool"),
    (
        Cause.SIZE,
        "Failed to schedule pod, no instance type has enough resources, requirements=node.kubernetes.io/instance-type In",
    ),
    (
        Cause.SIZE,
        "no instance type which met the scheduling requirements and the required offering had the required resources",
    ),
    (
        Cause.CAPACITY,
        "no instance type met the scheduling requirements or had enough resources or had a required offering",
    ),
    (
        Cause.CAPACITY,
        "Failed to schedule pod, no instance type met all requirements, requirements=karpenter.sh/nodepool",
    ),
    (Cause.CONFIGURATION, 'all available instance types exceed limits for nodepool: "fineline-a"'),
    (
        Cause.CONFIGURATION,
        "InsufficientCapacityError: NodeClaim a-1 event: resolving node class from nodeclaim, ec2nodeclasses "
        '"default" not found',
    ),
    (Cause.CONFIGURATION, "UnauthorizedOperation: You are not authorized to perform this operation. User: arn:aws:sts"),
    (Cause.CONFIGURATION, "SubnetsNotFound: SubnetSelector did not match any Subnets"),
    (Cause.UNKNOWN, "LaunchFailed: something that nobody has seen before"),
]


@pytest.mark.parametrize(("cause", "text"), SAID, ids=lambda value: str(value)[:40])
def test_every_failure_is_told_for_what_it_is(cause: Cause, text: str) -> None:
    assert classify(text) is cause


def a_rung(kind: str, capacity: str = "on-demand", vcpus: int = 48, accelerator: str = "") -> Rung:
    device = Device(kind="cuda", name="GPU", count=1, memory_bytes=1)
    return Rung(
        device=device,
        micro_batch_tokens=1,
        activations="kept",
        memory_bytes=1,
        available_bytes=1,
        minutes={},
        instance_type=kind,
        capacity=capacity,
        gpus=4,
        vcpus=vcpus,
        accelerator=accelerator,
    )


@pytest.mark.parametrize(
    ("rung", "cloud", "region", "told"),
    [
        (
            a_rung("g6.12xlarge"),
            "aws",
            "eu-west-1",
            "raise the quota 'Running On-Demand G and VT instances' in eu-west-1 by 48 vCPUs: "
            "https://eu-west-1.console.aws.amazon.com/servicequotas/home/services/ec2/quotas",
        ),
        (
            a_rung("p5.48xlarge", "spot", 192),
            "aws",
            "us-east-1",
            "'All P5 Spot Instance Requests' in us-east-1 by 192 vCPUs",
        ),
        (
            a_rung("p4d.24xlarge", "spot", 96),
            "aws",
            "us-east-1",
            "'All P4, P3 and P2 Spot Instance Requests' in us-east-1 by 96 vCPUs",
        ),
        (a_rung("p6-b200.48xlarge", "spot", 192), "aws", "us-east-1", "'of p6-b200.48xlarge spot'"),
        (
            a_rung("Standard_NC24ads_A100_v4", vcpus=24),
            "azure",
            "westeurope",
            "raise the quota 'Standard NCADS_A100_v4 Family vCPUs' in westeurope by 24 vCPUs: https://portal.azure.com/",
        ),
        (a_rung("Standard_NC24ads_A100_v4", "spot", 24), "azure", "westeurope", "'Total Regional Spot vCPUs'"),
        (
            a_rung("g2-standard-48", accelerator="nvidia-l4"),
            "gcp",
            "us-central1",
            "raise the quota 'NVIDIA_L4_GPUS' in us-central1 by 4 GPUs: https://console.cloud.google.com/iam-admin/quotas",
        ),
        (a_rung("a2-highgpu-1g", "spot", accelerator="nvidia-tesla-a100"), "gcp", "", "'PREEMPTIBLE_NVIDIA_A100_GPUS'"),
    ],
    ids=lambda value: value.name if isinstance(value, Rung) else str(value)[:12],
)
def test_a_quota_is_named_with_region_amount_and_page(rung: Rung, cloud: str, region: str, told: str) -> None:
    assert told in next_step(Cause.QUOTA, rung, cloud, region)


def test_every_cause_has_a_next_step() -> None:
    steps = {next_step(cause, a_rung("g6.xlarge"), "aws", "eu-west-1") for cause in Cause}
    assert len(steps) == len(Cause)
    assert all(steps)
