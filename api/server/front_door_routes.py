"""The front door: passes requests on to the gateways of a team's tuned models, and their answers back."""

import json
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api.database.tables import NAME_LENGTH
from api.models import model_owners
from api.models.passed_on import PassedOn, request_headers
from api.openai_errors import ApiError
from api.server.authentication import TheCaller
from api.server.services import Services, TheServices
from api.teams.caller import Caller

SHORT_BYTES = 64 * 1024  # of a body that needs no thread of its own
PATHS = CHAT, COMPLETIONS, RESPONSES = "chat/completions", "completions", "responses"
BODY: dict[str, Any] = {
    "type": "object",
    "required": ["model"],
    "properties": {"model": {"type": "string", "description": "Name of a tuned model: a job's `fine_tuned_model`."}},
    "additionalProperties": True,
    "description": "As OpenAI documents it. The model's server gets the whole body.",
}
REQUEST: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": BODY}}}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer of the model's server.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }
}

router = APIRouter(tags=["Answers"])


@router.post(f"/{CHAT}", openapi_extra=REQUEST, responses=ANSWERS, response_class=Response)
async def create_chat_completion(request: Request, by: TheCaller, state: TheServices) -> Response:
    """Create a chat completion with a tuned model."""
    return await _passed_on(request, by, state, CHAT)


@router.post(f"/{COMPLETIONS}", openapi_extra=REQUEST, responses=ANSWERS, response_class=Response)
async def create_completion(request: Request, by: TheCaller, state: TheServices) -> Response:
    """Complete a text with a tuned model."""
    return await _passed_on(request, by, state, COMPLETIONS)


@router.post(f"/{RESPONSES}", openapi_extra=REQUEST, responses=ANSWERS, response_class=Response)
async def create_response(request: Request, by: TheCaller, state: TheServices) -> Response:
    """Create a response with a tuned model."""
    return await _passed_on(request, by, state, RESPONSES)


async def _passed_on(request: Request, by: Caller, state: Services, path: str) -> PassedOn:
    try:
        body = await request.body()
    except ClientDisconnect:
        raise ApiError(400, "the connection ended before the body was complete; send it again") from None
    if len(body) <= SHORT_BYTES:
        model = _model_named(body)
    else:
        model = await run_sync(_model_named, body, limiter=state.long_bodies)
    gateway = await run_in_threadpool(_gateway, model, by.team, state)
    return PassedOn(f"{gateway}/{path}", body, request_headers(request.headers.raw, state.addresses.api_key()))


def _gateway(model: str, team: str, state: Services) -> str:
    """Return the base URL of the gateway of a model.

    The gateway in turn refuses a body that names a second model.

    Raises:
        ApiError: the team does not own the model, or it is not served.
    """
    if len(model) > NAME_LENGTH:
        raise ApiError(404, "the model does not exist: its name is too long", param="model", code="model_not_found")
    with state.sessions() as session:
        owned = model_owners.is_owned(session, team, model)
    url = state.addresses.url(model) if owned else None
    if url is None:
        raise ApiError(
            404,
            f"the model {model} does not exist or is not served; GET /v1/models shows which are",
            param="model",
            code="model_not_found",
        )
    return url


def _model_named(body: bytes) -> str:
    """Return the name of the model in a body, and keep nothing else of it: read, it may take 40 times its size.

    Raises:
        ApiError: it names none.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not valid JSON; correct it") from None
    model = asked.get("model") if isinstance(asked, dict) else None
    if not isinstance(model, str):
        raise ApiError(
            400, "the body must be a JSON object with the name of a tuned model as its field 'model'", param="model"
        )
    return model
