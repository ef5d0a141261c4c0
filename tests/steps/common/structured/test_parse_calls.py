"""Calls of tools in the formats of the families."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from steps.common.structured.json_answer import UntypedText
from steps.common.structured.parse_calls import FORMATS, parse_calls, read_calls
from steps.common.structured.parsed_call import ParsedCall

ROME = ParsedCall("get_weather", {"city": "Rome", "days": 3})
NOW = ParsedCall("now", {})
HERMES_ROME = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 3}}\n</tool_call>'
JSON_ROME = '{"name": "get_weather", "arguments": {"city": "Rome", "days": 3}}'
LLAMA_ROME = '{"name": "get_weather", "parameters": {"city": "Rome", "days": 3}}'
LLAMA_NOW = '{"name": "now", "parameters": {}}'
XML_ROME = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
    "</function>\n</tool_call>"
)
V3_CALL = (
    "<\uff5ctool\u2581call\u2581begin\uff5c>function<\uff5ctool\u2581sep\uff5c>%s\n```json\n%s\n```"
    "<\uff5ctool\u2581call\u2581end\uff5c>"
)
V31_CALL = "<\uff5ctool\u2581call\u2581begin\uff5c>%s<\uff5ctool\u2581sep\uff5c>%s<\uff5ctool\u2581call\u2581end\uff5c>"
ROMES_ARGUMENTS = '{"city": "Rome", "days": 3}'


def deepseek(*calls: str) -> str:
    return "<\uff5ctool\u2581calls\u2581begin\uff5c>" + "\n".join(calls) + "<\uff5ctool\u2581calls\u2581end\uff5c>"


WRITTEN: list[tuple[str, str, list[ParsedCall]]] = [
    ("hermes", HERMES_ROME, [ROME]),
    ("hermes", f'I look.\n{HERMES_ROME}\n<tool_call>{{"name": "now"}}</tool_call>', [ROME, NOW]),
    ("hermes", HERMES_ROME.removesuffix("\n</tool_call>"), [ROME]),
    ("hermes", f'<tool_call>[{JSON_ROME}, {{"name": "now", "arguments": "{{}}"}}]</tool_call>', [ROME, NOW]),
    ("qwen3_coder", XML_ROME, [ROME]),
    ("qwen3_xml", f"Well.\n{XML_ROME}\n<tool_call>\n<function=now>\n</function>\n</tool_call>", [ROME, NOW]),
    ("llama3_json", LLAMA_ROME, [ROME]),
    ("llama3_json", f"<|python_tag|>{LLAMA_ROME}; {LLAMA_NOW}", [ROME, NOW]),
    ("llama3_json", '{"type": "function", "function": {"name": "now", "parameters": null}}', [NOW]),
    ("llama4_json", f"{LLAMA_ROME}\n{LLAMA_NOW}", [ROME, NOW]),
    ("xlam", f"[{JSON_ROME}]", [ROME]),
    ("mistral", f"[TOOL_CALLS] [{JSON_ROME}]", [ROME]),
    ("mistral", f'[TOOL_CALLS][{JSON_ROME}, {{"name": "now", "arguments": {{}}, "id": "abcdefghi"}}]', [ROME, NOW]),
    ("mistral", f"[TOOL_CALLS]get_weather[ARGS]{ROMES_ARGUMENTS}[TOOL_CALLS]now[ARGS]{{}}", [ROME, NOW]),
    ("mistral", f"[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{ROMES_ARGUMENTS}", [ROME]),
    ("mistral", f"[TOOL_CALLS]get_weather{ROMES_ARGUMENTS}now{{}}", [ROME, NOW]),
    ("deepseek_v3", deepseek(V3_CALL % ("get_weather", ROMES_ARGUMENTS), V3_CALL % ("now", "{}")), [ROME, NOW]),
    ("deepseek_v31", deepseek(V31_CALL % ("get_weather", ROMES_ARGUMENTS)), [ROME]),
    ("pythonic", '[get_weather(city="Rome", days=3), now()]', [ROME, NOW]),
    ("llama4_pythonic", "<|python_start|>[get_weather(city='Rome', days=3)]<|python_end|>", [ROME]),
    ("olmo3", '<function_calls>\nget_weather(city="Rome", days=3)\nnow()\n</function_calls>', [ROME, NOW]),
    ("pythonic", '```tool_code\nget_weather(city="Rome", days=3)\n```', [ROME]),
    ("phi4_mini_json", f"functools[{JSON_ROME}]", [ROME]),
    ("phi4_mini_json", f"<|tool_call|>[{JSON_ROME}]<|/tool_call|>", [ROME]),
    ("granite", f"<tool_call>[{JSON_ROME}]", [ROME]),
    (
        "openai",
        "<|channel|>analysis<|message|>Rome it is.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
        f"<|constrain|>json<|message|>{ROMES_ARGUMENTS}<|call|>",
        [ROME],
    ),
]


@pytest.mark.parametrize(
    ("family", "text", "calls"), WRITTEN, ids=[f"{family}-{number}" for number, (family, _, _) in enumerate(WRITTEN)]
)
def test_calls_are_read_in_the_familys_format_and_without_naming_it(
    family: str, text: str, calls: list[ParsedCall]
) -> None:
    for found in (parse_calls(text, family), parse_calls(text), parse_calls(text, "a parser of later")):
        assert found is not None
        assert all(one.same(other) for one, other in zip(found, calls, strict=True))


def test_each_family_is_tried() -> None:
    assert {family for family, _, _ in WRITTEN} == set(FORMATS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is sunny in Rome.",
        '{"item": "Velvet", "quantity": 2}',
        '{"name": "Rex", "age": 3}',
        '[{"name": "Rex"}, {"name": "Tom", "parameters": {}}]',
        '{"name": "Rex", "age": ',
        "[1, 2]",
        "[see the list (below)]",
        "Call now() or get_weather(city='Rome').",
        "print(3)",
        "functools is a module of Python",
        "{not JSON",
    ],
)
def test_an_answer_without_a_call_has_none(text: str) -> None:
    assert parse_calls(text) == []


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "now", "arguments": {}</tool_call>',
        "<tool_call></tool_call>",
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "now", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "now", "arguments": {"a": 1, "a": 2}}</tool_call>',
        "<function=now>\n<parameter=a>",
        "<|python_tag|>now.call()",
        '{"name": "now", "parameters": {',
        '[TOOL_CALLS] [{"name": "now"',
        '[TOOL_CALLS]now[ARGS]{"a": ',
        deepseek("now"),
        deepseek(V31_CALL % ("now", "{")),
        "[now(1)]",
        "[now(a=b)]",
        '[now(a="]',
        "[now(a=__import__('os'))]",
        "<|tool_call|>now",
    ],
)
def test_a_call_that_cannot_be_read_is_told_from_none(text: str) -> None:
    assert parse_calls(text) is None


def test_values_of_a_format_without_types_are_texts_or_what_they_write() -> None:
    (found,) = parse_calls(XML_ROME, "qwen3_coder") or []
    assert isinstance(found.arguments["days"], UntypedText)
    assert found.same(ROME)
    assert found.same(ParsedCall("get_weather", {"city": "Rome", "days": "3"}))
    assert not found.same(ParsedCall("get_weather", {"city": "Rome", "days": 4}))


def test_literals_of_python_are_values_of_json() -> None:
    (found,) = parse_calls('[f(a=None, b=True, c=[1, -2.5], d={"x": (1,)}, e=false)]') or []
    assert json.loads(json.dumps(dict(found.arguments))) == {
        "a": None,
        "b": True,
        "c": [1, -2.5],
        "d": {"x": [1]},
        "e": False,
    }


TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|assistant|>",
    "fields": {
        "tool_calls": {
            "open": "<<",
            "close": ">>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"content": "text"},
    },
}


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (f"<<{JSON_ROME}>><<{JSON_ROME}>>", [ROME, ROME]),
        (HERMES_ROME, []),  # not how this model calls
        ("<<{>>", None),
        ("It is sunny.", []),
    ],
    ids=["two calls", "another family's call", "broken", "none"],
)
def test_a_tokenizers_own_template_of_responses_goes_first(text: str, calls: list[ParsedCall] | None) -> None:
    from transformers.utils.chat_parsing import parse_response

    def parsed(response: str, prefix: str) -> dict[str, Any]:
        return dict(parse_response(response, TEMPLATE, prefix=prefix))

    tokenizer = SimpleNamespace(response_template=TEMPLATE, parse_response=parsed)
    assert read_calls(text, tokenizer, "hermes") == calls


def test_without_one_the_familys_format_counts() -> None:
    tokenizer = SimpleNamespace(response_template=None)
    assert read_calls(HERMES_ROME, tokenizer, "hermes") == [ROME]
    assert read_calls(HERMES_ROME, tokenizer, "mistral") == []
