"""What a confined task and the process with the model say to each other over a socket: JSON, each with its length before it."""

import json
import socket
import struct
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

LENGTH = struct.Struct("!Q")
LONGEST_MESSAGE = 1 << 28  # bytes; the other end is not trusted
Setting = float | int | bool | str | list[str] | None


class ClosedSocketError(OSError):
    """The other end has gone."""


class MessageError(ValueError):
    """What came is no message."""


class ModelQuestion(BaseModel):
    """Requests to the model, in lm-eval's sense, or chats to put into its template."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["loglikelihood", "loglikelihood_rolling", "generate_until", "chat_template"]
    texts: list[tuple[str, str]] = []  # loglikelihood: context and continuation; else the text, and an empty one
    settings: list[dict[str, Setting]] = []  # generate_until: how each answer is generated
    chat: list[dict[str, str]] = []
    add_generation_prompt: bool = True


class TaskSample(BaseModel):
    """A row's metrics under one of the task's filters; None for a value that is no number."""

    filter: str
    values: dict[str, float | None]


class TaskSplits(BaseModel):
    """How many rows a task can ask, and in which splits of its data set they and its examples are."""

    rows: int
    used: list[str]  # each split that the task reads
    whole: list[str]  # those of which every row may be needed


class TaskOutcome(BaseModel):
    """What a confined task has found."""

    splits: dict[str, TaskSplits] = {}  # of each task, if it was only loaded
    samples: list[TaskSample] = []  # in the order of the rows
    means: list[str] = []  # the metrics that are a mean over rows, where higher is better
    without_code: list[tuple[str, str]] = []  # tasks, and their metrics that lm-eval does not have
    failure: str = ""  # the error with which the task's code ended


class TaskMessage(BaseModel):
    """A message of a confined task: a question, or its outcome."""

    model_config = ConfigDict(extra="forbid")

    question: ModelQuestion | None = None
    outcome: TaskOutcome | None = None


def send(connection: socket.socket, value: Any) -> None:
    """Send a value that JSON can hold."""
    body = json.dumps(value).encode()
    connection.sendall(LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket) -> Any:
    """Return the next value.

    Raises:
        ClosedSocketError: the other end has gone.
        MessageError: it is too long, or not JSON.
    """
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    if length > LONGEST_MESSAGE:
        raise MessageError(f"a message of {length} bytes is longer than {LONGEST_MESSAGE}")
    try:
        return json.loads(_exactly(connection, length))
    except (ValueError, RecursionError):
        raise MessageError("a message is not JSON") from None


def _exactly(connection: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        some = connection.recv(min(length - len(content), 1 << 20))
        if not some:
            raise ClosedSocketError
        content += some
    return bytes(content)
