"""The metric of calls."""

import pytest

from steps.common.structured.parse_calls import parse_calls
from steps.common.structured.parsed_call import ParsedCall
from steps.evaluate.scores.metrics.call_metric import call

ROME = ParsedCall("weather", {"city": "Rome", "days": 1})
PARIS = ParsedCall("weather", {"city": "Paris", "days": 1})
ASKS_ROME = '<tool_call>{"name": "weather", "arguments": {"days": 1.0, "city": "Rome"}}</tool_call>'
ASKS_PARIS = '<tool_call>{"name": "weather", "arguments": {"city": "Paris", "days": 1}}</tool_call>'


@pytest.mark.parametrize(
    ("answer", "wanted", "value"),
    [
        (ASKS_ROME, [ROME], 1),
        (ASKS_PARIS + ASKS_ROME, [ROME, PARIS], 1),
        (ASKS_ROME, [ROME, PARIS], 0),
        (ASKS_ROME + ASKS_ROME, [ROME], 0),
        (ASKS_ROME + ASKS_PARIS, [ROME, ROME], 0),
        (ASKS_PARIS, [ROME], 0),
        (ASKS_ROME.replace('"weather"', '"climate"'), [ROME], 0),
        (ASKS_ROME.replace("1.0", "true"), [ROME], 0),
        (ASKS_ROME.replace(', "city": "Rome"', ""), [ROME], 0),
        (ASKS_ROME.replace("}}", "}"), [ROME], 0),
        ("It is sunny.", [ROME], 0),
        ("It is sunny.", [], 1),
        (ASKS_ROME, [], 0),
        ("<tool_call>", [], 0),
    ],
)
def test_the_calls_and_their_arguments_are_the_references(answer: str, wanted: list[ParsedCall], value: float) -> None:
    assert call(parse_calls(answer), wanted) == value
