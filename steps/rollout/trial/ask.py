"""Sends a chat to a server over HTTP, as a user would."""

import time
from dataclasses import dataclass

import httpx2

from steps.common.rows.cells.thought_marks import behind_thought
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import first_line
from steps.common.web.web_client import local_client

Messages = list[dict[str, str]]
BUSY_PAUSE_SECONDS = 10.0
REACH_PAUSE_SECONDS = 0.5


class NoAnswerError(Exception):
    """The server cannot be reached or answers with an error; the text is one line."""


@dataclass(frozen=True)
class Answer:
    """An answer, without the thought before it, and the seconds that it took."""

    text: str
    seconds: float


def ask(
    url: str, name: str, messages: Messages, answer_tokens: int, seconds: float, *, reach_seconds: float = 0.0
) -> Answer:
    """Return the answer to a chat.

    Args:
        url: base URL of the OpenAI API, including /v1.
        name: name of the model.
        messages: the chat, which ends with a user's turn.
        answer_tokens: length limit of the answer.
        seconds: time limit of the answer.
        reach_seconds: for how long to try again if nothing accepts the connection.

    Raises:
        NoAnswerError: there is no answer.
    """
    body = {"model": name, "messages": messages, "max_tokens": answer_tokens, "temperature": 0}
    begun = time.monotonic()
    end = begun + seconds
    try:
        with local_client(timeout=seconds, headers=cluster_settings.api_key_header()) as client:
            while True:
                started = time.monotonic()
                try:
                    response = client.post(f"{url}/chat/completions", json=body)
                except httpx2.ConnectError:
                    if started > begun + reach_seconds:
                        raise
                    time.sleep(REACH_PAUSE_SECONDS)
                    continue
                took = time.monotonic() - started
                # Users may have used up the requests that the recipe allows per minute.
                if response.status_code != 429 or time.monotonic() > end:
                    break
                time.sleep(min(BUSY_PAUSE_SECONDS, float(response.headers.get("retry-after", "1"))))
        response.raise_for_status()
        text = behind_thought(str(response.json()["choices"][0]["message"]["content"] or ""))
    except (httpx2.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise NoAnswerError(first_line(error)) from None
    return Answer(text, took)
