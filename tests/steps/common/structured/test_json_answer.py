"""JSON in answers: what is one, and which are equal."""

import pytest

from steps.common.structured.json_answer import NotJsonError, UntypedText, read_json, same_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (' \n[1, "zwei", null]\n', [1, "zwei", None]),
        ('```json\n{"a": [1.5]}\n```', {"a": [1.5]}),
        ("```\n[]\n```\n", []),
        ("```JSON\n{}```", {}),
        ('{"text": "```"}', {"text": "```"}),
    ],
)
def test_an_object_or_array_is_read_also_in_a_fence(text: str, value: object) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        '"a"',
        "true",
        "null",
        "{'a': 1}",
        '{"a": 1,}',
        'Here it is: {"a": 1}',
        '{"a": 1}\nAnything else?',
        'Sure:\n```json\n{"a": 1}\n```',
        '{"a": 1}{"b": 2}',
        '{"a": NaN}',
        "[-Infinity]",
        '{"a": 1',
        '{"a": 1, "a": 2}',
    ],
)
def test_anything_else_is_no_json(text: str) -> None:
    with pytest.raises(NotJsonError):
        read_json(text)


def test_what_cannot_be_read_is_none_and_no_crash() -> None:
    for text in ("[" * 100_000, "[" + "9" * 5000 + "]"):  # too deep; a number with more digits than Python converts
        with pytest.raises(NotJsonError):
            read_json(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": False}, False),
        ({"a": False}, {"a": None}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": "Velvet"}, {"a": "velvet"}, False),
        ({"a": "e\u0301"}, {"a": "\u00e9"}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ([1, 2], [2, 1], False),
        ([1, 2], [1, 2, 2], False),
        ([[1], {"a": [True]}], [[1.0], {"a": [True]}], True),
        ([[1], {"a": [True]}], [[1], {"a": [1]}], False),
        ([], {}, False),
        (10**20, 1e20, True),
        (UntypedText("3"), 3, True),
        (UntypedText("3"), "3", True),
        (UntypedText("3"), "4", False),
        (UntypedText("true"), True, True),
        (UntypedText("True"), True, True),
        (UntypedText("False"), True, False),
        (UntypedText('{"a": [1]}'), {"a": [1.0]}, True),
        (UntypedText("Rome"), ["Rome"], False),
        (UntypedText("3"), UntypedText("3"), True),
    ],
)
def test_values_are_equal_as_json_has_it(one: object, other: object, same: bool) -> None:
    assert same_json(one, other) is same
    assert same_json(other, one) is same
