"""Limits for every request: the size of its body, and the characters in it."""

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.error_answers import error_answer
from api.openai_errors import ApiError

THREADS = 2  # for the characters of long bodies
SHORT_BYTES = 16 * 1024  # of a body that needs no thread
FOR_TEAMS = "/v1/"  # start of the paths that need a key
MAX_JSON_BYTES = 1024 * 1024
# As much as the gateways of the teams' models accept: by a recipe's serve.max_request_mib, which no request to the API sets.
MAX_CHAT_BYTES = 4 * 1024 * 1024
FORM_BYTES = 64 * 1024  # of a form, in addition to the file in it
# Escapes in JSON. The first group is an escape that text must not have: NUL, which Postgres does not store, or a lone
# surrogate, which UTF-8 cannot encode. Each escape is matched whole, so that an escaped backslash does not begin another.
ESCAPE = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(u0000|u[dD][89a-fA-F])|.)", re.DOTALL)


class RequestLimits:
    """Refuses a request that is too large, at once if its header says so, or that has characters which text must not have.

    An upload is passed on as it arrives, any other body once it is complete. What a stranger sends is not read.
    """

    def __init__(self, app: ASGIApp, max_upload_bytes: int, uploads: Collection[str], chats: Collection[str]) -> None:
        """Set the limits.

        Args:
            app: what gets the requests.
            max_upload_bytes: size limit of an uploaded file.
            uploads: paths that accept a file in a form.
            chats: paths that accept a conversation, which may be long.
        """
        self._app, self._max_upload_bytes, self._uploads, self._chats = app, max_upload_bytes, uploads, chats
        self._threads = anyio.CapacityLimiter(THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            receive = await self._limited(scope, receive)
        except ApiError as error:
            await error_answer(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _limited(self, scope: Scope, receive: Receive) -> Receive:
        if "\0" in scope["path"] or b"\0" in unquote_to_bytes(scope["query_string"]):
            raise ApiError(400, "the address contains the character NUL; remove it")
        if not is_for_teams(scope["path"]):
            return receive  # no route there reads a body
        headers = Headers(scope=scope)
        is_form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        form = is_form and scope["path"] in self._uploads
        whole = MAX_CHAT_BYTES if scope["path"] in self._chats else MAX_JSON_BYTES
        most = self._max_upload_bytes + FORM_BYTES if form else whole
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise self._too_large(most, form)
        return self._counted(receive, most) if form else await self._whole(receive, most)

    def _counted(self, receive: Receive, most: int) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                # FastAPI passes on an HTTPException, and reports any other exception as a body that it cannot read.
                raise HTTPException(413, str(self._too_large(most, form=True)))
            return message

        return counted

    async def _whole(self, receive: Receive, most: int) -> Receive:
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":  # the client has gone
                break
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > most:
                raise self._too_large(most, form=False)
        if len(body) <= SHORT_BYTES:
            _check_text(bytes(body))
        else:
            await run_sync(_check_text, bytes(body), limiter=self._threads)
        waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": more}]

        async def replayed() -> Message:
            return waiting.pop() if waiting else await receive()

        return replayed

    def _too_large(self, most: int, form: bool) -> ApiError:
        message = (
            f"the file is larger than the {self._max_upload_bytes} bytes that this server accepts; split it"
            if form
            else f"the body is larger than the {most} bytes that this server accepts; send less"
        )
        return ApiError(413, message, code="too_large")


def is_for_teams(path: str) -> bool:
    """Return whether a path needs a key."""
    return f"{path}/".startswith(FOR_TEAMS)


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8 at byte {error.start}; encode it as UTF-8") from None
    if b"\0" in body or (b"\\u" in body and any(found[1] for found in ESCAPE.finditer(body))):
        raise ApiError(400, "the body contains NUL or a lone surrogate, which are not text; remove it")
