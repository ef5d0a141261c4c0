"""Turns every error of a request into an answer in OpenAI's format."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from api.openai_errors import ApiError, error_body
from recipes.reader import RecipeError
from steps.common.kubernetes.api_errors import ClusterError, ConflictError, UnansweredError
from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.runtime.redaction import redact

LOG = logging.getLogger(__name__)
REQUEST_PARTS = ("body", "query", "path", "header", "cookie")
# A field or an index in the location of an error. Where a field has several types, pydantic also names the one that it tried.
NAME = re.compile(r"[A-Za-z0-9_.-]+")
NO_DATABASE = (OperationalError, InterfaceError, NoConnectionError)
LONGEST_MESSAGE, LONGEST_PARAM = 2000, 200  # characters; longer ones quote what a client has sent
OUR_ERROR = "the server has an internal error; ask its administrator to look in its log"
HEADERS = {401: {"WWW-Authenticate": "Bearer"}}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The body of an error."""

    error: ErrorDetail


def error_answer(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer for an error."""
    every = {**HEADERS.get(error.status, {}), **(headers or {})}
    if error.wait_seconds:
        every["Retry-After"] = str(error.wait_seconds)
    param = error.param and error.param[:LONGEST_PARAM]
    # Escaped, since a message may quote a lone surrogate, which UTF-8 cannot encode.
    text = json.dumps(error_body(error.status, _shown(str(error)), param, error.code))
    return Response(text, error.status, every, "application/json")


def no_database_answer(request: Request, error: Exception) -> Response:
    """Return the answer for an error of the database, and log the error."""
    LOG.error("%s %s: the database did not answer", request.method, request.url.path, exc_info=error)
    return error_answer(
        ApiError(503, "the server's database did not answer; try again in a few seconds", wait_seconds=10)
    )


def no_cluster_answer(request: Request, error: ClusterError) -> Response:
    """Return the answer for an error of the cluster, which is no caller's mistake, and log the error."""
    LOG.error("%s %s: %s", request.method, request.url.path, error)
    if isinstance(error, UnansweredError | ConflictError):
        return error_answer(
            ApiError(503, "the server's cluster did not answer; try again in a few seconds", wait_seconds=10)
        )
    return error_answer(ApiError(500, OUR_ERROR))


def _shown(message: str) -> str:
    """Return a message without secrets, and short."""
    # Cut before and after, since the beginning of a secret at the end of a text is not found.
    message = redact(message[: 2 * LONGEST_MESSAGE])
    return message if len(message) <= LONGEST_MESSAGE else f"{message[: LONGEST_MESSAGE - 1]}…"


def refusal_of(errors: Sequence[Any]) -> ApiError:
    """Return the answer for a request with invalid fields: it names the first of them."""
    mistake = errors[0]
    place = [str(part) for part in mistake["loc"]]
    if place[:1] and place[0] in REQUEST_PARTS:
        place = place[1:]
    if mistake["type"] == "json_invalid":
        return ApiError(400, f"the body is not valid JSON: {mistake.get('ctx', {}).get('error', mistake['msg'])}")
    param = ".".join(part for part in place if NAME.fullmatch(part)) or None
    unknown = mistake["type"] == "extra_forbidden"
    message = "unknown field; remove it" if unknown else str(mistake["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{param or 'the body'}: {message[:1].lower()}{message[1:]}", param=param)


def add_error_handlers(app: FastAPI) -> None:
    """Make an application answer every error in OpenAI's format."""

    @app.exception_handler(ApiError)
    async def _refused(_: Request, error: ApiError) -> Response:
        return error_answer(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        return error_answer(refusal_of(error.errors()))

    @app.exception_handler(UserError)
    @app.exception_handler(RecipeError)
    async def _mistaken(_: Request, error: Exception) -> Response:
        return error_answer(ApiError(400, str(error)))

    @app.exception_handler(ClusterError)
    async def _no_cluster(request: Request, error: ClusterError) -> Response:
        return no_cluster_answer(request, error)

    @app.exception_handler(UnreachableError)
    async def _unreachable(_: Request, error: UnreachableError) -> Response:
        return error_answer(ApiError(503, str(error), wait_seconds=10))

    async def _no_database(request: Request, error: Exception) -> Response:
        return no_database_answer(request, error)

    for kind in NO_DATABASE:
        app.add_exception_handler(kind, _no_database)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette names only the methods of the first route
            headers["Allow"] = ", ".join(sorted(_methods(app, request.url.path)))
        return error_answer(_named(request, error), headers)

    # Starlette raises the error again after the answer, and uvicorn logs it.
    @app.exception_handler(Exception)
    async def _ours(_: Request, error: Exception) -> Response:
        return error_answer(ApiError(500, OUR_ERROR))


def _methods(app: FastAPI, path: str) -> set[str]:
    """Return the methods that the routes of a path accept."""
    routes = ((route.path, route.methods) for route in iter_route_contexts(app.routes))
    found = [methods for known, methods in routes if known and methods and compile_path(known)[0].match(path)]
    return {method for methods in found for method in methods}


def _named(request: Request, error: HTTPException) -> ApiError:
    if error.status_code == 404:
        return ApiError(
            404,
            f"there is no {request.method} {request.url.path}; /openapi.json lists what there is",
            code="unknown_url",
        )
    if error.status_code == 405:
        return ApiError(
            405, f"{request.url.path} does not accept {request.method}; see the header Allow", code="method_not_allowed"
        )
    return ApiError(error.status_code, str(error.detail))
