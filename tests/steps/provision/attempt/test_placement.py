"""What may replace a node that is lost, and what pods take of a node."""

import pytest

from steps.common.handover.resolved import Rung
from steps.common.nodes.pod_placement import resources
from steps.provision.attempt.placement import on_a_bought_node, on_a_shared_node, replacements
from tests.steps.provision.attempt.test_causes import a_rung

L4, A10G, L40S = ("g6.xlarge", 22), ("g5.xlarge", 22), ("g6e.xlarge", 45)


def rung(kind: tuple[str, int], capacity: str) -> Rung:
    name, memory = kind
    return a_rung(name, capacity).model_copy(update={"available_bytes": memory << 30})


SPOT_FIRST = [rung(kind, capacity) for kind in (L4, A10G, L40S) for capacity in ("spot", "on-demand")]


@pytest.mark.parametrize(
    ("got", "ladder", "names"),
    [
        (0, SPOT_FIRST, ["g6.xlarge", "g5.xlarge", "g6e.xlarge"]),
        # None has less memory.
        (4, SPOT_FIRST, ["g6e.xlarge"]),
        # A type that is on the ladder as spot only would be allowed on demand too.
        (0, SPOT_FIRST[:5], ["g6.xlarge", "g5.xlarge"]),
        # The current node is on the ladder as spot only: on demand it exceeds a limit.
        (0, [SPOT_FIRST[0], *SPOT_FIRST[2:]], ["g6.xlarge", "g5.xlarge", "g6e.xlarge"]),
    ],
)
def test_nothing_is_allowed_that_is_not_on_the_ladder(got: int, ladder: list[Rung], names: list[str]) -> None:
    found = replacements(ladder[got], ladder)
    assert list(dict.fromkeys(one.instance_type for one in found)) == names
    allowed = {(kind, way) for kind in names for way in {one.capacity for one in found}}
    assert allowed <= {(one.instance_type, one.capacity) for one in ladder}


GIB = 1 << 30


def sized(vcpus: int, memory: int, **changes: object) -> Rung:
    return a_rung("g5.xlarge").model_copy(
        update={"vcpus": vcpus, "node_bytes": memory * GIB, "host_bytes": 10 * GIB, "gpus": 1, **changes}
    )


def test_pods_take_the_node_that_was_bought_for_them() -> None:
    found = resources(on_a_bought_node(sized(16, 64), "karpenter.sh/nodepool", "fineline-a", "a"))
    assert found["requests"] == {"nvidia.com/gpu": "1", "cpu": "12000m", "memory": str(48 * GIB)}
    assert found["limits"] == {"nvidia.com/gpu": "1", "cpu": "16000m", "memory": str(64 * GIB)}


def test_pods_fit_on_whatever_may_replace_the_node() -> None:
    found = resources(on_a_bought_node(sized(16, 64), "k", "v", "a", [sized(16, 64), sized(4, 16)]))
    assert found["requests"] == {"nvidia.com/gpu": "1", "cpu": "3000m", "memory": str(12 * GIB)}
    assert found["limits"]["memory"] == str(64 * GIB)


def test_pods_take_what_they_need_of_a_node_that_others_use() -> None:
    found = resources(on_a_shared_node(sized(0, 0, gpus=2), "NVIDIA-A10G"))
    assert found["requests"] == {"nvidia.com/gpu": "2", "cpu": "2000m", "memory": str(10 * GIB)}
    assert found["limits"] == {"nvidia.com/gpu": "2", "cpu": "32000m", "memory": str(20 * GIB)}


def test_a_rung_of_an_earlier_release_knows_nothing_of_its_node() -> None:
    found = resources(on_a_bought_node(sized(0, 0), "k", "v"))
    assert found["requests"] == {"nvidia.com/gpu": "1", "cpu": "1000m", "memory": str(10 * GIB)}
