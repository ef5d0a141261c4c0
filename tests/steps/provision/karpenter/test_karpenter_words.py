"""The part of Karpenter's message about a pod that concerns the pod's own pool."""

import pytest

from steps.provision.karpenter.buy import about_our_pool

FULL = "all available instance types exceed limits for nodepool (NodePool={})"
EARLIER = 'all available instance types exceed limits for nodepool: "{}"'
OTHER = "incompatible requirements, key karpenter.sh/nodepool, karpenter.sh/nodepool In [other] not in [ours]"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"Failed to schedule pod, {FULL.format('ours')}", f"Failed to schedule pod, {FULL.format('ours')}"),
        (f"Failed to schedule pod, {FULL.format('other')}", ""),
        (f"Failed to schedule pod, {FULL.format('ours-too')}", ""),
        (f"Failed to schedule pod, {EARLIER.format('other')}; {EARLIER.format('ours')}", EARLIER.format("ours")),
        ('incompatible with nodepool "other", daemonset overhead={}, no instance type has enough resources', ""),
        (f"Failed to schedule pod, {FULL.format('other')}; {FULL.format('ours')}", FULL.format("ours")),
        (f"Failed to schedule pod, {OTHER}; {FULL.format('ours')}", FULL.format("ours")),
        (
            "Failed to schedule pod, nodepool requirements filtered out all available instance types",
            "Failed to schedule pod, nodepool requirements filtered out all available instance types",
        ),
    ],
)
def test_what_is_said_of_other_pools_is_not_listened_to(said: str, kept: str) -> None:
    assert about_our_pool(said, "ours") == kept
