"""Finds the calls of tools in an answer: by the tokenizer's own template of responses, or by its family's format."""

from collections.abc import Callable
from typing import Any

from steps.common.structured import call_formats as formats
from steps.common.structured.parsed_call import BrokenCallError, ParsedCall, call_of

Format = Callable[[str], list[ParsedCall]]

# By the names of vLLM's tool parsers (`vllm serve --tool-call-parser`).
FORMATS: dict[str, tuple[Format, ...]] = {
    "hermes": (formats.tagged_json,),
    "qwen3_coder": (formats.tagged_xml,),
    "qwen3_xml": (formats.tagged_xml,),
    "llama3_json": (formats.llama_json,),
    "llama4_json": (formats.llama_json,),
    "xlam": (formats.llama_json,),
    "llama4_pythonic": (formats.pythonic,),
    "pythonic": (formats.pythonic,),
    "olmo3": (formats.pythonic,),
    "mistral": (formats.mistral,),
    "deepseek_v3": (formats.deepseek,),
    "deepseek_v31": (formats.deepseek,),
    "phi4_mini_json": (formats.marked_json,),
    "granite": (formats.marked_json, formats.tagged_json),
    "openai": (formats.harmony,),
}
# The marks of one are not those of another, so that all can be tried; formats without marks are last.
ALL: tuple[Format, ...] = (
    formats.tagged_json,
    formats.tagged_xml,
    formats.mistral,
    formats.deepseek,
    formats.harmony,
    formats.marked_json,
    formats.llama_json,
    formats.pythonic,
)


def parse_calls(text: str, family: str = "") -> list[ParsedCall] | None:
    """Return the calls of tools in an answer.

    Args:
        text: the answer with its special tokens, many of which are the marks of calls.
        family: name of vLLM's tool parser; all formats are tried if it is empty or not known here.

    Returns:
        The calls in their order; an empty list if the answer calls no tool; None if it begins a call that cannot be read.
    """
    broken = False
    for read in FORMATS.get(family, ALL):
        try:
            if calls := read(text):
                return calls
        except BrokenCallError:
            broken = True
    return None if broken else []


def read_calls(text: str, tokenizer: Any, family: str = "") -> list[ParsedCall] | None:
    """Return the calls of tools in an answer, as `parse_calls` does.

    A tokenizer that says itself how its model's answers are read (`response_template`, since transformers 5) is believed.
    """
    if not getattr(tokenizer, "response_template", None):
        return parse_calls(text, family)
    try:
        message = tokenizer.parse_response(text, prefix="")
        calls = [one.get("function", one) for one in message.get("tool_calls") or []]
        return [call_of(one.get("name"), one.get("arguments")) for one in calls]
    except (ValueError, AttributeError, BrokenCallError):  # what a template cannot read, or gives in no known shape
        return None
