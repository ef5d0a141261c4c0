"""The references of metrics that want structure: which answers of a row can be one."""

from steps.common.rows.conversation import Message
from steps.common.structured.json_answer import NotJsonError, read_json
from steps.common.structured.parse_calls import parse_calls
from steps.common.structured.parsed_call import ParsedCall, call_of

JSON_METRICS = ("json_valid", "json_equal")
CALL = "call"


def is_reference(metric: str, answer: Message, family: str = "") -> bool:
    """Tell whether an answer of the held-out rows, which may hold other answers too, is meant for a metric."""
    if metric == CALL:
        return bool(wanted_calls(answer, family))
    return metric not in JSON_METRICS or not _json_error(answer.content)


def reference_error(metric: str, answer: Message, family: str = "") -> str:
    """Return why an answer of a task's own file cannot be a metric's reference; empty if it can."""
    if metric == "json_equal" and (error := _json_error(answer.content)):
        return f"its answer, the reference of {metric}, {error}"
    if metric == CALL and not answer.tool_calls and parse_calls(answer.content, family) is None:
        return f"its answer, the reference of {metric}, begins a call that cannot be read"
    return ""


def wanted_calls(answer: Message, family: str = "") -> list[ParsedCall]:
    """Return the calls of a reference, its own or those that its text writes out; none if it calls no tool.

    Args:
        answer: the reference.
        family: the format of calls in the text, see `parse_calls`. The answers must be read in the same.
    """
    if answer.tool_calls:
        return [call_of(call.name, call.arguments) for call in answer.tool_calls]
    return parse_calls(answer.content, family) or []


def _json_error(text: str) -> str:
    try:
        read_json(text)
    except NotJsonError as error:
        return str(error)
    return ""
