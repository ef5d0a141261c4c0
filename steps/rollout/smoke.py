"""Asks a server the smoke questions over HTTP, as a user would."""

from dataclasses import dataclass

import httpx2

from steps.common import cluster
from steps.common.errors import RefusedError
from steps.common.progress import say

FALLBACK = "Hello"


@dataclass(frozen=True)
class SmokeQuestion:
    """A question, and what the answer must contain; nothing where any answer will do."""

    ask: str
    expect: str


def smoke(url: str, name: str, questions: list[SmokeQuestion], answer_tokens: int) -> None:
    """Ask every question; each must be answered, and as expected.

    Args:
        url: base URL of the OpenAI API, with /v1.
        name: of the model.
        questions: with none of them, a greeting is sent.
        answer_tokens: longest answer.

    Raises:
        RefusedError: an error, an empty answer, or one without what is expected.
    """
    for question in questions or [SmokeQuestion(FALLBACK, "")]:
        answer = ask(url, name, question.ask, answer_tokens)
        say(f"asked: {question.ask} answered: {' '.join(answer.split())}")
        if not answer.strip():
            raise RefusedError(f"the new server gave an empty answer to {question.ask!r}")
        if question.expect.casefold() not in answer.casefold():
            raise RefusedError(
                f"the new server does not answer {question.ask!r} as the evaluation did: {answer.strip()[:120]!r}"
            )


def ask(url: str, name: str, question: str, answer_tokens: int) -> str:
    """Return the answer to one question.

    Raises:
        RefusedError: the server cannot be reached or answers with an error.
    """
    body = {
        "model": name,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": answer_tokens,
        "temperature": 0,
    }
    try:
        key = {"Authorization": f"Bearer {cluster.api_key()}"} if cluster.api_key() else {}
        response = httpx2.post(f"{url}/chat/completions", json=body, headers=key, timeout=120)
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])
    except (httpx2.HTTPError, ValueError, KeyError, IndexError) as error:
        raise RefusedError(f"the new server fails on {question!r}: {str(error).splitlines()[0]}") from None
