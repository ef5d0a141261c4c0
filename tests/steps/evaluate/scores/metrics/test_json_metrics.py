"""The metrics of JSON: json_valid and json_equal."""

import pytest

from steps.common.structured.json_answer import NotJsonError
from steps.evaluate.scores.metrics.json_metrics import json_equal, json_valid

ORDER = '{"item": "Velvet", "quantity": 2}'


@pytest.mark.parametrize(
    ("answer", "valid", "equal"),
    [
        (ORDER, 1, 1),
        ('{"quantity":2.0,"item":"Velvet"}', 1, 1),
        (f"```json\n{ORDER}\n```", 1, 1),
        ('{"item": "velvet", "quantity": 2}', 1, 0),
        ('{"item": "Velvet", "quantity": "2"}', 1, 0),
        ('{"item": "Velvet", "quantity": 3, "quantity": 2}', 1, 0),
        ('{"item": "Velvet"}', 1, 0),
        (f"[{ORDER}]", 1, 0),
        (f"Here you are: {ORDER}", 0, 0),
        (ORDER[:-1], 0, 0),
        ("two bags of Velvet", 0, 0),
        ("", 0, 0),
    ],
)
def test_an_answer_is_json_and_the_references(answer: str, valid: float, equal: float) -> None:
    assert json_valid(answer, "") == valid
    assert json_equal(answer, ORDER) == equal


def test_a_reference_that_is_no_json_is_an_error_and_no_zero() -> None:
    with pytest.raises(NotJsonError):
        json_equal(ORDER, "two bags")
