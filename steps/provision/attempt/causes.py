"""Why a node did not come, and what to do about it, out of what Karpenter and the cloud say."""

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import yaml

from steps.common.handover.resolved import Rung


class Cause(StrEnum):
    """A kind of failure; each has a next step of its own."""

    QUOTA = "quota"  # the account may have no more of it
    CAPACITY = "capacity"  # the cloud has none left: another type, zone or hour will do
    SIZE = "size"  # it is smaller than its preset says, for what the pods ask for
    CONFIGURATION = "configuration"  # NodeClass, subnets, rights: no other type will do better
    DRIVER = "driver"  # the node is there and offers no GPU
    REGISTRATION = "registration"  # the machine was bought and has not joined the cluster
    UNKNOWN = "unknown"


# With these every other instance type fails too.
FINAL = (Cause.CONFIGURATION, Cause.DRIVER)
# By what an instance type's name begins with.
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
    """Return what kind of failure a message tells of."""
    return next((cause for cause, pattern in _patterns() if pattern.search(text)), Cause.UNKNOWN)


def weightiest(texts: Iterable[str]) -> tuple[Cause, str] | None:
    """Return the failure that is most specific among messages, or None: a quota is told as a lack of capacity too."""
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
    """Return what the user can do, in words.

    Args:
        cause: what went wrong.
        rung: what was asked for.
        cloud: aws, azure, gcp; empty: not known.
        region: where; empty: not known.
    """
    if cause is Cause.QUOTA:
        return f"raise {_quota(rung, cloud)} in {region or 'your region'} by {_amount(rung, cloud)}: {_page(cloud, region)}"
    if cause is Cause.CAPACITY:
        return (
            "allow more in compute.instance_types, or compute.capacity=spot-first, or try again in some hours"
            if rung.capacity == "on-demand"
            else "set compute.capacity=spot-first, or allow more in compute.instance_types"
        )
    if cause is Cause.SIZE:
        return "leave it out of compute.instance_types, or write its memory_gib in a file, see FINELINE_GPU_PRESETS"
    if cause is Cause.CONFIGURATION:
        return (
            "mend what it names in the NodeClass or in the rights of Karpenter; no other instance type would do better"
        )
    if cause is Cause.DRIVER:
        return f"install NVIDIA's driver and device plugin for nodes of Karpenter's: {DEVICE_PLUGIN}"
    if cause is Cause.REGISTRATION:
        return "look why it does not join: its boot log in the cloud's console, its role, its network to the API server"
    return "kubectl describe nodepool,nodeclaim tells what is there"


def _quota(rung: Rung, cloud: str) -> str:
    if cloud == "aws":
        return f"the quota '{_aws_quota(rung)}'"
    if cloud == "azure":
        # Standard_NC24ads_A100_v4 is of the family NCADS_A100_v4; on spot all families share one quota.
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
