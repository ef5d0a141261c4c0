"""The forms that rows come in, told apart by their columns, each brought to a `Row`.

| form               | columns                                                     |
|--------------------|-------------------------------------------------------------|
| chat               | messages: a list of {role, content}                         |
| ShareGPT           | conversations: a list of {from, value}                      |
| prompt/completion  | prompt, completion                                          |
| instruction        | instruction, output (or response), and perhaps input, system |
| plain text         | text                                                        |
"""

import itertools
import json
from collections.abc import Mapping
from typing import Any

from steps.common.rows.row import Row

ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
# Left as they are, these would be taught as literal role names the model has never seen.
SHAREGPT_ROLES = {**ROLES, "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}


class FormError(Exception):
    """The row is of no known form, or not a good one of its form; the text says why."""


def to_row(columns: Mapping[str, Any]) -> Row:
    """Bring a row of any known form to a `Row`.

    Raises:
        FormError: why it cannot be.
    """
    if "messages" in columns:
        return _chat(_turns(columns["messages"], "messages", "role", "content", ROLES))
    if "conversations" in columns:
        return _chat(_turns(columns["conversations"], "conversations", "from", "value", SHAREGPT_ROLES))
    if {"prompt", "completion"} <= columns.keys():
        return _prompt_completion(columns["prompt"], columns["completion"])
    answer = next((name for name in ("output", "response") if name in columns), None)
    if "instruction" in columns and answer:
        asked = [_text(columns, "instruction"), _text(columns, "input", optional=True)]
        turns = [("user", "\n\n".join(part for part in asked if part)), ("assistant", _text(columns, answer))]
        system = _text(columns, "system", optional=True)
        return _chat([("system", system), *turns] if system else turns)
    if "text" in columns:
        return Row(text=_text(columns, "text"))
    has = ", ".join(map(str, columns)) or "none"
    raise FormError(
        f"has the columns {has}; wanted are messages, conversations, prompt and completion, instruction and output, or text"
    )


def _text(columns: Mapping[str, Any], name: str, *, optional: bool = False) -> str:
    value = columns.get(name)
    if optional and (value is None or value == ""):
        return ""
    if not isinstance(value, str):
        raise FormError(f"{name!r} is {_kind(value)}, not text")
    if not value.strip():
        raise FormError(f"{name!r} is empty")
    return value


def _kind(value: Any) -> str:
    names = {type(None): "null", dict: "an object", list: "a list", bool: "true or false"}
    return names.get(type(value), "a number")


def _turns(value: Any, column: str, role_key: str, text_key: str, roles: dict[str, str]) -> list[tuple[str, str]]:
    if isinstance(value, str):  # in a CSV file
        try:
            value = json.loads(value)
        except ValueError:
            raise FormError(f"{column!r} is text that is not JSON") from None
    if not isinstance(value, list) or not value:
        raise FormError(f"{column!r} is {'empty' if value == [] else _kind(value) + ', not a list'}")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            raise FormError(f"message {number} is {_kind(turn)}, not an object with {role_key!r} and {text_key!r}")
        role, text = turn.get(role_key), turn.get(text_key)
        if not isinstance(role, str) or role not in roles:
            raise FormError(f"message {number} has the {role_key} {role!r}; known are {', '.join(roles)}")
        if turn.get("tool_calls"):
            raise FormError(f"message {number} calls tools, which is not supported")
        if not isinstance(text, str) or not text.strip():
            raise FormError(f"message {number} ({role}) has no {text_key}")
        turns.append((roles[role], text))
    return turns


def _prompt_completion(prompt: Any, completion: Any) -> Row:
    if isinstance(prompt, list):  # TRL's conversational form
        turns = _turns(prompt, "prompt", "role", "content", ROLES)
        return _chat(turns + _turns(completion, "completion", "role", "content", ROLES))
    columns = {"prompt": prompt, "completion": completion}
    return _chat([("user", _text(columns, "prompt")), ("assistant", _text(columns, "completion"))])


def _chat(turns: list[tuple[str, str]]) -> Row:
    roles = [role for role, _ in turns]
    if "system" in roles[1:]:
        raise FormError("a system message that is not the first")
    spoken = [role for role in roles if role != "system"]
    if not spoken or spoken[0] != "user":
        raise FormError("does not begin with a user message")
    if any(a == b for a, b in itertools.pairwise(spoken)):
        raise FormError("has two messages of the same role in a row")
    if spoken[-1] != "assistant":
        raise FormError("does not end with an assistant message, so there is nothing to learn")
    return Row(messages=tuple(turns))
