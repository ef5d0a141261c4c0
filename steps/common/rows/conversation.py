"""A conversation: its messages, and what else the chat template is given."""

import json
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool by the assistant."""

    name: str
    arguments: str = "{}"  # a JSON object


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str = ""
    thinking: str = ""  # the assistant's thoughts before its answer, without the marks around them
    tool_calls: tuple[ToolCall, ...] = ()  # the assistant's, after its content
    name: str = ""  # of the tool whose result a tool's message is
    learnt: bool = True  # whether an assistant's message is trained on, and not only read

    @property
    def text(self) -> str:
        """All that the message says, to be compared with others."""
        if not self.thinking and not self.tool_calls:
            return self.content
        calls = [f"{call.name}({call.arguments})" for call in self.tool_calls]
        return "\n".join(part for part in (self.thinking, self.content, *calls) if part)

    def for_template(self) -> dict[str, Any]:
        """Return the message as chat templates take it: a call's arguments are an object there, as vLLM passes them too."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.thinking:
            message["reasoning_content"] = self.thinking
        if self.tool_calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
                for call in self.tool_calls
            ]
        if self.name:
            message["name"] = self.name
        return message


@dataclass(frozen=True)
class Conversation:
    """Messages, with the tools and documents that belong to them."""

    messages: tuple[Message, ...]
    tools: str = ""  # a JSON list of tools as the OpenAI API has them; empty: none
    documents: str = ""  # a JSON list of documents, for templates that take them; empty: none

    @classmethod
    def of(cls, *turns: tuple[Role, str]) -> Self:
        """Return a conversation of texts, each with its role."""
        return cls(tuple(Message(role, content) for role, content in turns))

    @property
    def question(self) -> str:
        """What is asked: the documents, and what system and user say. If the user says nothing, the whole conversation.

        The results of tools are left out: with other results, a question is the same.
        """
        if not any(message.role == "user" for message in self.messages):
            return self.content
        said = [message.content for message in self.messages if message.role in ("system", "user")]
        return "\n".join([self.documents, *said] if self.documents else said)

    @property
    def content(self) -> str:
        """The whole conversation as text, with roles."""
        parts = [f"{message.role}: {message.text}" for message in self.messages]
        return "\n".join([*(part for part in (self.tools, self.documents) if part), *parts])

    @property
    def is_text(self) -> bool:
        """Whether it is texts alone: no tools, calls, results of tools or documents."""
        beside = self.tools or self.documents
        return not beside and not any(message.tool_calls or message.role == "tool" for message in self.messages)

    @property
    def asked(self) -> "Conversation":
        """The conversation without its last message, the answer."""
        return replace(self, messages=self.messages[:-1])

    @property
    def answer(self) -> Message:
        """The last message."""
        return self.messages[-1]

    def answered(self, answer: Message) -> "Conversation":
        """Return the conversation with another last message."""
        return replace(self, messages=(*self.messages[:-1], answer))

    def to_json(self) -> str:
        """Return the conversation as JSON without what is empty."""
        value: dict[str, Any] = {"messages": [_given(message) for message in self.messages]}
        value |= {key: text for key, text in (("tools", self.tools), ("documents", self.documents)) if text}
        return json.dumps(value, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        value = json.loads(text)
        return cls(
            tuple(_message(message) for message in value["messages"]),
            value.get("tools", ""),
            value.get("documents", ""),
        )

    def for_template(self) -> list[dict[str, Any]]:
        """Return the messages as chat templates take them."""
        return [message.for_template() for message in self.messages]


def _given(message: Message) -> dict[str, Any]:
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        value["thinking"] = message.thinking
    if message.tool_calls:
        value["tool_calls"] = [[call.name, call.arguments] for call in message.tool_calls]
    if message.name:
        value["name"] = message.name
    if not message.learnt:
        value["learnt"] = False
    return value


def _message(value: dict[str, Any]) -> Message:
    calls = tuple(ToolCall(name, arguments) for name, arguments in value.get("tool_calls", ()))
    return Message(**{**value, "tool_calls": calls})
