"""Metrics of answers that are JSON, as in extraction."""

from steps.common.structured.json_answer import NotJsonError, RepeatedKeyError, read_json, same_json


def json_valid(answer: str, _: str) -> float:
    """Return 1 if the answer is a JSON object or array, perhaps in a fence, with nothing else around it, else 0."""
    try:
        read_json(answer)
    except RepeatedKeyError:
        return 1.0
    except NotJsonError:
        return 0.0
    return 1.0


def json_equal(answer: str, reference: str) -> float:
    """Return 1 if the answer is JSON with the reference's value, else 0; see `same_json`.

    Raises:
        NotJsonError: the reference is no JSON object or array.
    """
    wanted = read_json(reference)
    try:
        return float(same_json(read_json(answer), wanted))
    except NotJsonError:
        return 0.0
