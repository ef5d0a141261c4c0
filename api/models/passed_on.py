"""Passes a request on to a model's gateway, and passes its answer back unchanged as it arrives."""

from collections.abc import Iterable

import anyio
import httpx2
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.error_answers import error_answer
from api.openai_errors import ApiError

# The headers of a request that are passed on. The others are for this server, such as the team's key, or for the connection.
REQUEST_HEADERS = (
    b"accept",
    b"accept-encoding",
    b"content-type",
    b"traceparent",
    b"tracestate",
    b"user-agent",
    b"x-request-id",
)
# The headers of an answer that are not passed back: those for the connection (RFC 9110, section 7.6.1), and those that this
# server sets itself.
CONNECTION_HEADERS = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
OWN_HEADERS = {b"date", b"server"}
CONNECT_SECONDS = 5.0
# The gateway ends an answer after the recipe's serve.answer_seconds; this is for a gateway that has vanished silently.
SILENCE_SECONDS = 3600.0
TIMEOUT = httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
# A gateway closes idle connections without notice, and a request on one would be lost.
LIMITS = httpx2.Limits(max_keepalive_connections=0)

RawHeaders = Iterable[tuple[bytes, bytes]]  # as they arrived, since their values may have any encoding


class PassedOn(Response):
    """The answer of a gateway. If the client disconnects, the request is cancelled."""

    def __init__(self, url: str, body: bytes, headers: RawHeaders) -> None:
        """Prepare the request. It is sent when the answer is needed.

        Args:
            url: where to send it.
            body: as the client has sent it.
            headers: all headers to send.
        """
        super().__init__()
        self._url, self._content, self._sent = url, body, list(headers)
        self._answered = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the gateway, and pass its answer back."""
        async with anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            try:
                await self._pass_back(send)
            except httpx2.HTTPError as error:
                # An answer that has begun stays incomplete, and the connection is closed, as the gateway's was.
                if not self._answered:
                    await error_answer(_in_words(error))(scope, receive, send)
            group.cancel_scope.cancel()

    async def _pass_back(self, send: Send) -> None:
        # There is no TLS to verify, and loading this machine's certificates takes longer than a short answer.
        async with (
            httpx2.AsyncClient(trust_env=False, verify=False, timeout=TIMEOUT, limits=LIMITS) as client,
            client.stream("POST", self._url, content=self._content, headers=self._sent) as answer,
        ):
            headers = list(_passed_back(answer.headers.raw))
            self._answered = True
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            async for part in answer.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def request_headers(headers: RawHeaders, api_key: str) -> list[tuple[bytes, bytes]]:
    """Return the headers for a gateway: the client's headers that it may see, and the gateway's own key."""
    sent = [(name, value) for name, value in headers if name.lower() in REQUEST_HEADERS]
    return [*sent, (b"authorization", f"Bearer {api_key}".encode())] if api_key else sent


def _passed_back(headers: RawHeaders) -> RawHeaders:
    given = [(name.lower(), value) for name, value in headers]
    named = {one.strip().lower() for name, value in given if name == b"connection" for one in value.split(b",")}
    dropped = CONNECTION_HEADERS | OWN_HEADERS | named
    return ((name, value) for name, value in given if name not in dropped)


async def _until_gone(receive: Receive, cancelled: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancelled.cancel()


def _in_words(error: httpx2.HTTPError) -> ApiError:
    if isinstance(error, httpx2.ReadTimeout):
        return ApiError(504, "the model did not answer in time; ask for a shorter answer", code="timeout")
    return ApiError(503, "the model does not answer; try again in a few seconds", code="unavailable", wait_seconds=5)
