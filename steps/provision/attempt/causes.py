"""Why a node did not come, from the messages of Karpenter and the cloud, and what to do about it."""

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import yaml

from steps.common.handover.resolved import Rung


class Cause(StrEnum):
    """A kind of failure; each has its own next step."""

    QUOTA = "quota"  # the account's quota is used up
    CAPACITY = "capacity"  # the cloud has none left; another type, zone or hour may work
    SIZE = "size"  # the node is smaller than its preset says, and the pods do not fit
    CONFIGURATION = "configuration"  # NodeClass, subnets, permissions: no other type would work either
    DRIVER = "driver"  # the node is ready, but advertises no GPU
    REGISTRATION = "registration"  # the node was launched, but has not joined the cluster
    UNKNOWN = "unknown"


# Every other instance type would fail for the same reason.
FINAL = (Cause.CONFIGURATION, Cause.DRIVER)
# By the prefix of an instance type's name.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-limits.html
AWS_QUOTAS = {
    "on-demand": {"g": "Running On-Demand G and VT instances", "p": "Running On-Demand P instances"},
    "spot": {
        "g": "All G and VT Spot Instance Requests",
        "p5": "All P5 Spot Instance Requests",
        "p4": "All P4, P3 and P2 Spot Instance Requests",
        "p3": "All P4, P3 and P2 Spot Instance Requests",
    },
}
QUOTA_PAGES = {
    "aws": "https://{region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas",
    "azure": "https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas",
    "gcp": "https://console.cloud.google.com/iam-admin/quotas",
}
DEVICE_PLUGIN = "https://github.com/NVIDIA/k8s-device-plugin#quick-start"


def classify(text: str) -> Cause:
    """Return the kind of failure that a message describes."""
    return next((cause for cause, pattern in _patterns() if pattern.search(text)), Cause.UNKNOWN)


def most_specific(texts: Iterable[str]) -> tuple[Cause, str] | None:
    """Return the most specific failure among messages, or None: Karpenter reports a quota as a lack of capacity too."""
    known = [(classify(text), text) for text in texts]
    for cause in (Cause.QUOTA, Cause.CONFIGURATION, Cause.SIZE, Cause.CAPACITY):
        if text := next((text for found, text in known if found is cause), ""):
            return cause, " ".join(text.split())
    return None


@cache
def _patterns() -> list[tuple[Cause, re.Pattern[str]]]:
    text = resources.files("steps.provision.attempt").joinpath("causes.yaml").read_text()
    known: list[dict[str, Any]] = yaml.safe_load(text)
    return [(Cause(entry["cause"]), re.compile(entry["says"])) for entry in known]


def next_step(cause: Cause, rung: Rung, cloud: str, region: str) -> str:
    """Return what the user can do.

    Args:
        cause: why it failed.
        rung: what was requested.
        cloud: aws, azure or gcp; empty: unknown.
        region: of the cluster; empty: unknown.
    """
    if cause is Cause.QUOTA:
        return f"raise {_quota(rung, cloud)} in {region or 'your region'} by {_amount(rung, cloud)}: {_page(cloud, region)}"
    if cause is Cause.CAPACITY:
        return (
            "allow more in compute.instance_types, set compute.capacity=spot-first, or try again in a few hours"
            if rung.capacity == "on-demand"
            else "set compute.capacity=spot-first, or allow more in compute.instance_types"
        )
    if cause is Cause.SIZE:
        return (
            "remove it from compute.instance_types, or correct its memory_gib in a file named by FINELINE_GPU_PRESETS"
        )
    if cause is Cause.CONFIGURATION:
        return (
            "fix what it names in the NodeClass or in Karpenter's permissions; no other instance type would work either"
        )
    if cause is Cause.DRIVER:
        return f"install NVIDIA's driver and device plugin on Karpenter's nodes: {DEVICE_PLUGIN}"
    if cause is Cause.REGISTRATION:
        return "check its boot log in the cloud's console, its role, and its network to the API server"
    return "run kubectl describe nodepool,nodeclaim for details"


def _quota(rung: Rung, cloud: str) -> str:
    if cloud == "aws":
        return f"the quota '{_aws_quota(rung)}'"
    if cloud == "azure":
        # Standard_NC24ads_A100_v4 belongs to the family NCADS_A100_v4; on spot all families share one quota.
        name = re.sub(r"^Standard_([A-Z]+)\d+([a-z]*)", lambda m: m[1] + m[2].upper(), rung.instance_type)
        kind = "Total Regional Spot vCPUs" if rung.capacity == "spot" else f"Standard {name} Family vCPUs"
        return f"the quota '{kind}'"
    if cloud == "gcp":
        gpu = rung.accelerator.removeprefix("nvidia-").removeprefix("tesla-").replace("-", "_").upper()
        return f"the quota '{'PREEMPTIBLE_' if rung.capacity == 'spot' else ''}NVIDIA_{gpu}_GPUS'"
    return "the quota that it names"


def _aws_quota(rung: Rung) -> str:
    known = AWS_QUOTAS[rung.capacity]
    return next(
        (name for start, name in known.items() if rung.instance_type.startswith(start)),
        f"of {rung.instance_type} {rung.capacity}",
    )


def _amount(rung: Rung, cloud: str) -> str:
    return f"{rung.gpus} GPUs" if cloud == "gcp" or not rung.vcpus else f"{rung.vcpus} vCPUs"


def _page(cloud: str, region: str) -> str:
    return QUOTA_PAGES.get(cloud, "in your cloud's console").format(region=region or "us-east-1")
