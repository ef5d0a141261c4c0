"""Reads a list of messages in whatever notation: OpenAI's keys or ShareGPT's, and the role names that are in use."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from steps.common.rows.cells.columns import CALL_KEYS, Columns, FormError, in_a_line, is_empty, kind_of, says_nothing
from steps.common.rows.cells.message_text import read_content, read_result, same_thoughts
from steps.common.rows.cells.role_names import CALL_ROLES, ROLES
from steps.common.rows.cells.thought_marks import MARKS, split_thoughts
from steps.common.rows.cells.tool_calls import read_calls
from steps.common.rows.conversation import Message, Role, ToolCall

ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value", "text")
THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
LEARNT_KEYS = ("weight", "train", "training", "loss")


def read_messages(columns: Columns, name: str, turns: list[Any], *, learnt: bool = True) -> tuple[Message, ...]:
    """Read a list of messages.

    Args:
        columns: the row; what has no effect in the messages is recorded there.
        name: the column with the messages.
        turns: the messages.
        learnt: whether the assistant's messages are trained on, unless they say otherwise.

    Raises:
        FormError: a message has an unknown role, no content, or content that is not text.
    """
    reader = _MessageReader(columns, name, learnt)
    for turn in turns:
        if not reader.read_plain(turn):
            for one in _by_role(turn):
                reader.read(one)
    return tuple(reader.messages)


def message_text(role: Role, text: str, *, thinking: str = "", learnt: bool = True) -> Message:
    """Return a message of a text; the assistant's thoughts stand in marks before its answer, or beside it.

    Raises:
        FormError: an assistant's message has a thought that does not end, or thoughts and no answer.
    """
    if role != "assistant":
        return Message(role, text)
    marked, answer = split_thoughts(text, "the answer")
    if not answer.strip():
        raise FormError("the answer has only thoughts")
    return Message(role, answer, thinking=same_thoughts([thinking, marked], "the answer"), learnt=learnt)


def _by_role(turn: Any) -> list[Any]:
    """Return the messages of a turn such as `{"human": …, "assistant": …}`; any other message as it is."""
    if not isinstance(turn, Mapping) or any(key in turn for key in ROLE_KEYS):
        return [turn]
    said = [(key, value) for key, value in turn.items() if not is_empty(value)]
    if not said or not all(key in ROLES for key, _ in said):
        return [turn]
    return [{"role": key, "content": value} for key, value in said]


class _MessageReader:
    """The messages read so far, and the calls that tools have to answer."""

    def __init__(self, columns: Columns, name: str, learnt: bool) -> None:
        self.messages: list[Message] = []
        self._columns = columns
        self._name = name
        self._learnt = learnt
        self._number = 0
        self._open: dict[int, tuple[str, str]] = {}  # the last calls without a result: id and tool
        self._results: list[tuple[int, Message]] = []  # of the last calls, each with its place among them

    def read(self, turn: Any) -> None:
        """Read the next message, in whatever notation.

        Raises:
            FormError: it cannot be read.
        """
        self._number += 1
        if not isinstance(turn, Mapping):
            raise FormError(f"message {self._number} is {kind_of(turn)}, not an object with 'role' and 'content'")
        keys = self._columns.message(self._name, turn)
        role_key = keys.first(*ROLE_KEYS)
        given = keys.use(role_key)
        role = given.strip().lower() if isinstance(given, str) else ""
        if role not in ROLES and role not in CALL_ROLES:
            what = (
                f"the {role_key} {in_a_line(repr(given))}; known are {', '.join((*ROLES, *CALL_ROLES))}"
                if role_key
                else "no role"
            )
            raise FormError(f"message {self._number} has {what}")
        where = f"message {self._number} ({role})"
        content = keys.use(keys.first(*CONTENT_KEYS))
        learnt = self._is_learnt(keys, role, where)
        if role in CALL_ROLES:
            self._add_calls(content, learnt, where)
        elif ROLES[role] == "assistant":
            self._add_answer(keys, content, learnt, where)
        elif ROLES[role] == "tool":
            self._add_result(keys, content, where)
        else:
            self._add_asked(keys, ROLES[role], content, where)
        keys.ignore_rest()

    def read_plain(self, turn: Any) -> bool:
        """Read the next message if it is only a text with its role, as nearly all are, and return whether it is."""
        if type(turn) is not dict or len(turn) != 2:
            return False
        role, text = (turn["role"], turn.get("content")) if "role" in turn else (turn.get("from"), turn.get("value"))
        if type(text) is not str or type(role) is not str or not text or text.isspace():
            return False
        known = ROLES.get(role)
        if (
            known is None
            or known == "tool"
            or (known == "assistant" and any(mark in text for marks in MARKS for mark in marks))
        ):
            return False
        self._number += 1
        self._add(Message(known, text, learnt=self._learnt or known != "assistant"))
        return True

    def _is_learnt(self, keys: Columns, role: str, where: str) -> bool:
        """Return whether the assistant's message is learnt. A mark on any other message has no effect."""
        marks = {key: keys.use(key) for key in LEARNT_KEYS if keys.has(key)}
        for key, mark in marks.items():
            if not isinstance(mark, int | float) or mark not in (0, 1):
                raise FormError(f"{where} has the {key} {in_a_line(repr(mark))}; known are 0 and 1, or false and true")
        if keys.has("train_detail"):
            raise FormError(f"{where} has 'train_detail'; a message is learned as a whole or not at all")
        if role not in CALL_ROLES and ROLES[role] != "assistant":
            for key, mark in marks.items():
                if mark:
                    keys.ignore(f"{key} of {ROLES[role]}")
        return self._learnt and all(marks.values())

    def _add_asked(self, keys: Columns, role: Role, content: Any, where: str) -> None:
        thoughts, text = read_content(content, where)
        if thoughts:
            keys.ignore(f"content of {role}: thinking")
        if any(keys.has(key) for key in CALL_KEYS):
            raise FormError(f"{where} calls a tool; only the assistant can")
        if text.strip():
            self._add(Message(role, text))
        elif role != "system":
            raise FormError(f"{where} has no content")

    def _add_result(self, keys: Columns, content: Any, where: str) -> None:
        """Add a tool's result, in the order of the calls: their ids, by which a client may send it in another, are dropped."""
        name, call = (value if isinstance(value, str) else "" for value in (keys.use("name"), keys.use("tool_call_id")))
        place, called = self._answered(name, call)
        first = len(self.messages) - len(self._results)
        self._results.append((place, Message("tool", read_result(content, where), name=name or called)))
        self._results.sort(key=lambda result: result[0])
        self.messages[first:] = [message for _, message in self._results]

    def _answered(self, name: str, call: str) -> tuple[int, str]:
        """Return which of the calls before a result it answers, and the tool: by the id, the tool's name, or the order."""
        found = [number for number, (known, _) in self._open.items() if call and known == call]
        if not found and name:
            found = [number for number, (_, tool) in self._open.items() if tool == name]
        if not found and not name and not (call and any(known for known, _ in self._open.values())):
            found = list(self._open)
        return (found[0], self._open.pop(found[0])[1]) if found else (len(self._results) + len(self._open), "")

    def _add_answer(self, keys: Columns, content: Any, learnt: bool, where: str) -> None:
        thoughts, text = read_content(content, where)
        if not text.strip() and isinstance(keys.use("refusal"), str):
            text = keys.use("refusal")
        marked, text = split_thoughts(text, where)
        beside = [keys.text(key) for key in THOUGHT_KEYS if keys.has(key)]
        thinking = same_thoughts([*beside, thoughts, marked], where)
        self._open.clear()
        calls_key = keys.first(*CALL_KEYS)
        calls = () if says_nothing(keys.use(calls_key)) else self._calls(keys.peek(calls_key), where)
        if not text.strip() and not calls and not thinking:
            raise FormError(f"{where} has no content")
        self._add(Message("assistant", text, thinking=thinking, tool_calls=calls, learnt=learnt))

    def _add_calls(self, content: Any, learnt: bool, where: str) -> None:
        """Add calls that are a turn of their own; those that follow one another are made at once."""
        thinking = ""
        if isinstance(content, str):
            thinking, content = split_thoughts(content, where)
        last = self.messages[-1] if self.messages else None
        if last and last.role == "assistant" and last.learnt == learnt and not thinking:
            self.messages[-1] = replace(last, tool_calls=last.tool_calls + self._calls(content, where))
        else:
            self._open.clear()
            calls = self._calls(content, where)
            self._add(Message("assistant", thinking=thinking, tool_calls=calls, learnt=learnt))

    def _add(self, message: Message) -> None:
        self.messages.append(message)
        self._results.clear()
        if message.role != "assistant" or not message.tool_calls:
            self._open.clear()

    def _calls(self, value: Any, where: str) -> tuple[ToolCall, ...]:
        calls = read_calls(value, where)
        last = max(self._open, default=-1) + 1
        self._open |= {number: (call, name) for number, (call, name, _) in enumerate(calls, last)}
        return tuple(ToolCall(name, arguments) for _, name, arguments in calls)
