"""What no request may have, whatever it asks for: a body that is too large, or a text that is none."""

import re
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.error_answers import error_answer
from api.openai_errors import ApiError

MAX_JSON_BYTES = 16 * 1024 * 1024  # a conversation of a million tokens has about five
FORM_BYTES = 64 * 1024  # of a form besides the file in it
# Escapes in JSON, of which the first group is one that stands for no text: NUL, which Postgres does not store, and half a pair
# of surrogates, which UTF-8 cannot express. Each escape is matched whole, so that a backslash is not taken for another one's.
ESCAPE = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(u0000|u[dD][89a-fA-F])|.)", re.DOTALL)


class RequestLimits:
    """Refuses a request that is too large, at once if it says so, and one with characters that are in no text.

    A form is passed on as it comes, everything else when all of it is there.
    """

    def __init__(self, app: ASGIApp, max_upload_bytes: int) -> None:
        self._app, self._max_upload_bytes = app, max_upload_bytes

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
            raise ApiError(400, "the address has the character NUL, which is in no name")
        headers = Headers(scope=scope)
        form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        most = self._max_upload_bytes + FORM_BYTES if form else MAX_JSON_BYTES
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise self._too_large(form)
        return self._counted(receive, most) if form else await self._whole(receive, most)

    def _counted(self, receive: Receive, most: int) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                # FastAPI passes this one on as it is, and takes any other for a body that it cannot read.
                raise HTTPException(413, str(self._too_large(form=True)))
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
                raise self._too_large(form=False)
        _check_text(bytes(body))
        waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": more}]

        async def replayed() -> Message:
            return waiting.pop() if waiting else await receive()

        return replayed

    def _too_large(self, form: bool) -> ApiError:
        what, most = ("file", self._max_upload_bytes) if form else ("body", MAX_JSON_BYTES)
        return ApiError(413, f"the {what} is larger than the {most} bytes that this server accepts", code="too_large")


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8: byte {error.start}") from None
    if b"\0" in body or (b"\\u" in body and any(found[1] for found in ESCAPE.finditer(body))):
        raise ApiError(400, "the body has a character that is in no text: NUL, or half a pair of surrogates")
