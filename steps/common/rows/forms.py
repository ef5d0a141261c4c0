"""The forms of rows, recognised by their columns, and the conversion of each to a `Row`.

| form               | columns                                                     |
|--------------------|-------------------------------------------------------------|
| chat               | messages: a list of {role, content}                         |
| ShareGPT           | conversations: a list of {from, value}                      |
| prompt/completion  | prompt, completion                                          |
| instruction        | instruction, output (or response); optional input, system   |
| plain text         | text                                                        |
| preference         | chosen, rejected, prompt (or question); optional system     |

The answers of a preference are texts or lists of {role, content}. Whole conversations need no prompt.
"""

import itertools
import json
from collections.abc import Mapping
from typing import Any

from steps.common.rows.conversation import Conversation, Message, Role
from steps.common.rows.row import Row

ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
# Without this mapping, the model would be trained on role names that it has never seen.
SHAREGPT_ROLES: dict[str, Role] = {
    **ROLES,
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
}


class FormError(Exception):
    """The row is in no known form, or is not valid in its form; the text says why."""


def to_row(columns: Mapping[str, Any]) -> Row:
    """Convert a row in any known form to a `Row`.

    Raises:
        FormError: the row cannot be converted.
    """
    if {"chosen", "rejected"} <= columns.keys():  # first: some datasets repeat the chosen conversation as `messages`
        return _preference(columns)
    if "messages" in columns:
        return _chat(_turns(columns["messages"], "messages", "role", "content", ROLES))
    if "conversations" in columns:
        return _chat(_turns(columns["conversations"], "conversations", "from", "value", SHAREGPT_ROLES))
    if {"prompt", "completion"} <= columns.keys():
        return _prompt_completion(columns["prompt"], columns["completion"])
    answer = next((name for name in ("output", "response") if name in columns), None)
    if "instruction" in columns and answer:
        question = [_text(columns, "instruction"), _text(columns, "input", optional=True)]
        turns: list[tuple[Role, str]] = [
            ("user", "\n\n".join(part for part in question if part)),
            ("assistant", _text(columns, answer)),
        ]
        system = _text(columns, "system", optional=True)
        return _chat([("system", system), *turns] if system else turns)
    if "text" in columns:
        return Row(text=_text(columns, "text"))
    has = ", ".join(map(str, columns)) or "none"
    raise FormError(
        f"has the columns {has}; expected are messages, conversations, prompt and completion, instruction and output, text, "
        "or prompt, chosen and rejected"
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


def _turns(value: Any, column: str, role_key: str, text_key: str, roles: dict[str, Role]) -> list[tuple[Role, str]]:
    if isinstance(value, str):  # in a CSV file
        try:
            value = json.loads(value)
        except ValueError:
            raise FormError(f"{column!r} is text that is not JSON") from None
    if not isinstance(value, list) or not value:
        raise FormError(f"{column!r} is {'empty' if value == [] else _kind(value) + ', not a list'}")
    turns: list[tuple[Role, str]] = []
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


def _preference(columns: Mapping[str, Any]) -> Row:
    asked = next((name for name in ("prompt", "question") if columns.get(name) not in (None, "")), "")
    chosen, rejected = (_conversation(columns, name, asked) for name in ("chosen", "rejected"))
    at = next((n for n, (a, b) in enumerate(zip(chosen[:-1], rejected[:-1], strict=False), 1) if a != b), 0)
    if at or len(chosen) != len(rejected):
        where = f"in message {at}" if at else f"in length, {len(chosen)} and {len(rejected)} messages"
        raise FormError(
            f"'chosen' and 'rejected' do not answer the same prompt: they differ {where}, and only the last may differ"
        )
    if chosen[-1][1].split() == rejected[-1][1].split():
        raise FormError("'chosen' and 'rejected' are the same answer, so there is nothing to prefer")
    return Row(Conversation.of(*chosen), rejected=Message("assistant", rejected[-1][1]))


def _conversation(columns: Mapping[str, Any], answer: str, asked: str) -> tuple[tuple[Role, str], ...]:
    """Return the prompt followed by one of its answers, which may contain the prompt already."""
    said, prompt = _listed(columns[answer]), _listed(columns.get(asked))
    turns = _turns(said, answer, "role", "content", ROLES) if isinstance(said, list) else []
    if turns and turns[0][0] != "assistant":
        if isinstance(prompt, str) and prompt.strip() not in {text.strip() for _, text in turns}:
            raise FormError(f"{answer!r} is a whole conversation, and {asked!r} is not one of its messages")
        if isinstance(prompt, list) and turns[: len(prompt)] != _turns(prompt, asked, "role", "content", ROLES):
            raise FormError(f"{answer!r} is a whole conversation, and does not begin with {asked!r}")
        return _answered(turns, answer)
    if not asked:
        raise FormError(f"{answer!r} is only an answer, and there is no column 'prompt' with the question")
    if isinstance(prompt, list):
        before = _turns(prompt, asked, "role", "content", ROLES)
    else:
        system = _text(columns, "system", optional=True)
        before = [("user", _text(columns, asked))]
        if system:
            before.insert(0, ("system", system))
    return _answered(before + (turns or [("assistant", _text(columns, answer))]), answer)


def _answered(turns: list[tuple[Role, str]], answer: str) -> tuple[tuple[Role, str], ...]:
    try:
        _chat(turns)
    except FormError as error:
        raise FormError(f"{answer!r}, with its prompt, {error}") from None
    return tuple(turns)


def _listed(value: Any) -> Any:
    """Return the list of messages that a CSV cell contains as JSON; any other value unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith("[{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value  # a text that only starts like a list


def _chat(turns: list[tuple[Role, str]]) -> Row:
    roles = [role for role, _ in turns]
    if "system" in roles[1:]:
        raise FormError("has a system message that is not the first")
    spoken = [role for role in roles if role != "system"]
    if not spoken or spoken[0] != "user":
        raise FormError("does not begin with a user message")
    if any(a == b for a, b in itertools.pairwise(spoken)):
        raise FormError("has two messages of the same role in a row")
    if spoken[-1] != "assistant":
        raise FormError("does not end with an assistant message, so there is nothing to train on")
    return Row(Conversation.of(*turns))
