"""The references of metrics that want structure: which answers of a row can be one."""

from steps.common.structured.json_answer import NotJsonError, read_json
from steps.common.structured.parse_calls import parse_calls
from steps.common.structured.parsed_call import ParsedCall

JSON_METRICS = ("json_valid", "json_equal")
CALL = "call"


def is_reference(metric: str, text: str) -> bool:
    """Tell whether an answer of the held-out rows, which may hold other answers too, is meant for a metric."""
    if metric == CALL:
        return bool(parse_calls(text))
    return metric not in JSON_METRICS or not _json_error(text)


def reference_error(metric: str, text: str) -> str:
    """Return why an answer of a task's own file cannot be a metric's reference; empty if it can."""
    if metric == "json_equal" and (error := _json_error(text)):
        return f"its answer, the reference of {metric}, {error}"
    if metric == CALL and parse_calls(text) is None:
        return f"its answer, the reference of {metric}, begins a call that cannot be read"
    return ""


def wanted_calls(text: str) -> list[ParsedCall]:
    """Return the calls of a reference; none if it calls no tool."""
    return parse_calls(text) or []


def _json_error(text: str) -> str:
    try:
        read_json(text)
    except NotJsonError as error:
        return str(error)
    return ""
