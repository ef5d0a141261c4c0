"""What may replace a node that is lost."""

import pytest

from steps.common.handover.resolved import Rung
from steps.provision.attempt.placement import replacements
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
