"""The metric of answers that call tools."""

from collections.abc import Sequence

from steps.common.structured.parsed_call import ParsedCall, same_calls


def call(found: Sequence[ParsedCall] | None, wanted: Sequence[ParsedCall]) -> float:
    """Return 1 if an answer makes the calls of its reference, with equal arguments, in any order, and no others; else 0.

    Args:
        found: the answer's calls; None if it begins one that cannot be read.
        wanted: the reference's; empty if the answer should call no tool.
    """
    return float(found is not None and same_calls(list(found), list(wanted)))
