"""A model's own chat template with one setting of its arguments: rows are learnt, scored and served under the same prompts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from steps.common.rows.conversation import Conversation, Message, ToolCall
from steps.common.runtime.errors import first_line

Messages = Sequence[Mapping[str, Any]]

_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {"of": {"type": "string", "description": "What."}}},
    },
}
_PROBES: dict[str, list[dict[str, Any]]] = {
    "tools": [_PROBE_TOOL],
    "documents": [{"title": "probe", "text": "A probe.", "content": "A probe."}],
}


_PROBE = "qzprobe"  # a word that no template writes by itself
_ASKED = Message("user", "probe")
_CALLED = Message("assistant", tool_calls=(ToolCall(_PROBE),))
_PROBE_CHATS: dict[str, tuple[Message, ...]] = {
    "a system message": (Message("system", _PROBE), _ASKED),
    "calls": (_ASKED, _CALLED),
    "results of tools": (
        _ASKED,
        replace(_CALLED, tool_calls=(ToolCall("other"),)),
        Message("tool", _PROBE, name="other"),
    ),
}


class RefusedByTemplateError(Exception):
    """The chat template refuses a conversation; the text is what it says."""


@dataclass
class ChatTemplate:
    """A tokenizer's chat template.

    Args:
        tokenizer: of the model; it may have no template.
        arguments: what the template is given besides the conversation, such as `enable_thinking`.
    """

    tokenizer: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)
    _takes: dict[str, bool] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self.tokenizer.chat_template)

    def prompt(self, chat: Conversation) -> str:
        """Return the text that the model reads before it answers; without a template, the messages line by line.

        Raises:
            RefusedByTemplateError: the template refuses the chat.
        """
        if not self.exists:
            return "\n".join(message.content for message in chat.messages) + "\n"
        return self.render(self.messages(chat), chat, asking=True)

    def messages(self, chat: Conversation) -> list[dict[str, Any]]:
        """Return the messages as the template takes them, with ids of calls if it wants those."""
        found = chat.for_template()
        if "tool_call_id" not in str(self.tokenizer.chat_template):
            return found
        open_calls: list[str] = []
        number = 0
        for message in found:
            for call in message.get("tool_calls", ()):
                number += 1
                call["id"] = f"call{number:05d}"  # nine letters and digits, as Mistral's template demands
                open_calls.append(call["id"])
            if message["role"] == "tool" and open_calls:
                message["tool_call_id"] = open_calls.pop(0)
        return found

    def render(self, messages: Messages, chat: Conversation, *, asking: bool) -> str:
        """Render messages with the tools and documents of a chat.

        Args:
            messages: from `messages`, or the first of them.
            chat: whose tools and documents they are.
            asking: end with what precedes an answer.

        Raises:
            RefusedByTemplateError: the template refuses them.
        """
        given = {
            **self.arguments,
            "tools": json.loads(chat.tools) if chat.tools else None,
            "documents": json.loads(chat.documents) if chat.documents else None,
            "add_generation_prompt": asking,
        }
        try:
            return self._applied(messages, given)
        except Exception as error:  # jinja2's errors, and whatever a template raises on purpose
            # vLLM and transformers pass a call's arguments as an object. DeepSeek's templates concatenate a text.
            if any("tool_calls" in message for message in messages):
                try:
                    return self._applied([_with_text_arguments(message) for message in messages], given)
                except Exception:  # the first error is the one to report
                    pass
            raise RefusedByTemplateError(first_line(error)) from None

    def render_all(self, chats: Sequence[Messages]) -> list[str] | None:
        """Render whole conversations that have neither tools nor documents; None if one of them is refused."""
        try:
            found = self.tokenizer.apply_chat_template(list(map(list, chats)), tokenize=False, **self.arguments)
        except Exception:  # which one it was, and why, `render` says
            return None
        return list(map(str, found))

    def takes(self, what: str) -> bool:
        """Return whether the template writes something anywhere, or refuses it in its own words.

        Args:
            what: "tools", "documents", "a system message", "calls" or "results of tools".
        """
        if what not in self._takes:
            self._takes[what] = self.exists and self._writes(what)
        return self._takes[what]

    def _writes(self, what: str) -> bool:
        if what in _PROBE_CHATS:
            chat = Conversation(_PROBE_CHATS[what], json.dumps(_PROBES["tools"]) if self.takes("tools") else "")
            try:
                return _PROBE in self.render(self.messages(chat), chat, asking=what != "calls")
            except RefusedByTemplateError:
                return True
        messages = self.messages(Conversation((_ASKED,)))
        given = {**self.arguments, "add_generation_prompt": True}
        try:
            return self._applied(messages, given) != self._applied(messages, {**given, what: _PROBES[what]})
        except Exception:  # a template that fails over a probe looks at it
            return True

    def _applied(self, messages: Messages, given: dict[str, Any]) -> str:
        return str(self.tokenizer.apply_chat_template(list(messages), tokenize=False, **given))


def _with_text_arguments(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}
