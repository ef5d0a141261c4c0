"""The metric of answers that call tools."""

from collections.abc import Sequence

from steps.common.structured.parsed_call import ParsedCall


def call(found: Sequence[ParsedCall] | None, wanted: Sequence[ParsedCall]) -> float:
    """Return 1 if an answer makes the calls of its reference, with equal arguments, in any order, and no others; else 0.

    Args:
        found: the answer's calls; None if it begins one that cannot be read.
        wanted: the reference's; empty if the answer should call no tool.
    """
    if found is None:
        return 0.0
    left = list(wanted)
    for one in found:
        match = next((other for other in left if one.same(other)), None)
        if match is None:
            return 0.0
        left.remove(match)
    return float(not left)
