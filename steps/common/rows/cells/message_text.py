"""The text of a message: given as text or in parts, with thoughts before the answer or without."""

from collections.abc import Mapping
from typing import Any

from steps.common.rows.cells.columns import FormError, in_a_line, is_empty, kind_of, to_json

TEXT_PARTS = (None, "", "text", "input_text", "output_text")
THOUGHT_PARTS = ("thinking", "reasoning")


def read_content(value: Any, where: str) -> tuple[str, str]:
    """Return the thoughts and the text of a message's content, which is a text or a list of parts.

    Raises:
        FormError: a part is not text.
    """
    if isinstance(value, str):
        return "", value
    if value is None:
        return "", ""
    if not isinstance(value, list | tuple):
        raise FormError(f"{where} has content that is {kind_of(value)}, not text")
    thoughts: list[str] = []
    texts: list[str] = []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, Mapping):
            raise FormError(f"{where} has a part that is {kind_of(part)}, not text")
        elif kind in THOUGHT_PARTS:
            thoughts.append(_thought(part, where))
        elif kind == "refusal" and isinstance(part.get("refusal"), str):
            texts.append(part["refusal"])
        elif kind in TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            what = f"of the type {kind!r}" if kind else f"with {', '.join(map(str, part)) or 'nothing'}"
            raise FormError(f"{where} has a part {in_a_line(what)}; only text can be learned")
    # As vLLM joins them (https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html)
    return "\n".join(thoughts), "\n".join(texts)


def read_result(value: Any, where: str) -> str:
    """Return the result of a tool: a text, parts of text, or any other value as JSON.

    Raises:
        FormError: the result has something that JSON cannot express.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list | tuple) and any(isinstance(part, Mapping) and part.get("type") for part in value):
        return read_content(value, where)[1]
    return to_json(value, f"the content of {where}")


def same_thoughts(found: list[str], where: str) -> str:
    """Return the one text of thoughts that stands in several places.

    Raises:
        FormError: the places have different thoughts.
    """
    distinct = list(dict.fromkeys(thoughts.strip() for thoughts in found if not is_empty(thoughts)))
    if len(distinct) > 1:
        raise FormError(f"{where} has different thoughts in two places; keep one of them")
    return distinct[0] if distinct else ""


def _thought(part: Mapping[str, Any], where: str) -> str:
    value = next((part[key] for key in (*THOUGHT_PARTS, "text") if not is_empty(part.get(key))), "")
    return value if isinstance(value, str) else read_content(value, where)[1]
