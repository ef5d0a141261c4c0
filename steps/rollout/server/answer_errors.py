"""Errors of the model server in the form that OpenAI's clients expect.

Starlette answers an exception with a text and raises it again, upon which uvicorn closes the connection without having said
so. The gateway would send the next request on that connection, and lose it.
"""

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FAILED = "the model server failed to answer this request; its log says why"

# uvicorn's logger: its lines are those of the server's log.
_log = logging.getLogger("uvicorn.error")


class GenerationError(RuntimeError):
    """The server failed after it had accepted a request."""


def error_body(status: int, message: str) -> dict[str, object]:
    """Return an error as OpenAI writes it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": " ".join(message.split()), "type": kind, "code": status}}


async def answer_refusal(_: Request, error: Exception) -> JSONResponse:
    """Answer what a handler of transformers refuses; 422 is 400 in OpenAI's API."""
    assert isinstance(error, HTTPException)
    status = 400 if error.status_code == 422 else error.status_code
    return JSONResponse(error_body(status, str(error.detail)), status)


class FailureAnswers:
    """Middleware that answers every exception with a JSON 500, and says that the connection ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; answer it if that fails before an answer has begun."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if begun or scope["type"] != "http":
                raise
            _log.exception("failed: %s %s", scope["method"], scope["path"])
            answer = JSONResponse(error_body(500, FAILED), 500, headers={"connection": "close"})
            await answer(scope, receive, send)
