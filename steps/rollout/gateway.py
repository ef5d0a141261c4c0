"""What users talk to: the OpenAI paths of the model that now serves, at an address that stays when versions change.

    python -m steps.rollout.gateway NAME HOST PORT             the server that serves on this machine now
    python -m steps.rollout.gateway NAME HOST PORT UPSTREAM    the one server beside it in a pod, as an Upstream in JSON

Where FINELINE_API_KEY is set, a request has to carry it as bearer token; the health check alone has not.

`transformers serve` also has paths that load other models and reset the server, for whoever can reach it. Only the
paths below are passed on. On one machine, which server they go to is read from a file at each request, so a new version
takes over between two requests, and answers under way are finished by the old one.
"""

import functools
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from steps.common import cluster, serving
from steps.rollout.upstream import Upstream

PASSED_ON = ("chat/completions", "completions", "responses")
LONGEST_SECONDS = 600.0


Find = Callable[[], Upstream | None]


def on_this_machine(name: str) -> Upstream | None:
    """Return the server that serves the model `name` on this machine now."""
    found = serving.server(name)
    if found is None:
        return None
    url, started = f"http://127.0.0.1:{found.process.port}", found.process.started
    return Upstream(url=url, started=started, **found.model_dump(include={"version", "run", "base", "adapter_sha256"}))


def build(name: str, find: Find, api_key: str = "") -> FastAPI:
    """Return the gateway of a model as an ASGI application.

    Args:
        name: of the model.
        find: names the server, at each request.
        api_key: that a request has to carry; empty: none.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(LONGEST_SECONDS, connect=5)) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    if api_key:

        @app.middleware("http")
        async def keyed(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if request.url.path != "/health" and not secrets.compare_digest(given.encode(), api_key.encode()):
                return _error(401, "this model's API key is needed, as bearer token")
            return await go_on(request)

    @app.get("/v1/models")
    async def models() -> Response:
        server = find()
        data = [_model(name, server)] if server else []
        return JSONResponse({"object": "list", "data": data})

    @app.get("/health")
    async def health(request: Request) -> Response:
        server = find()
        if server is None:
            return JSONResponse({"status": "no model server is running"}, 503)
        try:
            answer = await request.app.state.client.get(f"{server.url}/health")
        except httpx2.HTTPError as error:
            return JSONResponse({"status": str(error) or type(error).__name__}, 503)
        return JSONResponse({"status": "ok", "version": server.version}, answer.status_code)

    for path in PASSED_ON:
        app.add_api_route(f"/v1/{path}", _passer(name, path, find), methods=["POST"])
    return app


def _model(name: str, server: Upstream) -> dict[str, Any]:
    lineage = {"version": server.version, "adapter_sha256": server.adapter_sha256, "run": server.run}
    return {
        "id": name,
        "object": "model",
        "created": int(server.started),
        "owned_by": "fineline",
        "parent": server.base,
        **lineage,
    }


def _passer(name: str, path: str, find: Find) -> Any:
    async def pass_on(request: Request) -> Response:
        server = find()
        if server is None:
            return _error(503, f"no server of {name!r} is running")
        try:
            body = json.loads(await request.body())
        except ValueError:
            return _error(400, "the request's body is not JSON")
        if not isinstance(body, dict):
            return _error(400, "the request's body is not a JSON object")
        if body.get("model", name) != name:
            return _error(404, f"no model {body['model']!r} here; this server has {name!r}")
        client: httpx2.AsyncClient = request.app.state.client
        url = f"{server.url}/v1/{path}"
        try:
            answer = await client.send(
                client.build_request("POST", url, json={**body, "model": server.model or name}), stream=True
            )
        except httpx2.HTTPError as error:
            return _error(502, f"the model server does not answer: {str(error) or type(error).__name__}")
        kind = answer.headers.get("content-type")
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, media_type=kind, background=BackgroundTask(answer.aclose)
        )

    return pass_on


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "code": status}}, status)


if __name__ == "__main__":
    model, host, port, *fixed = sys.argv[1:]
    if fixed:
        beside = Upstream.model_validate_json(fixed[0])
        beside.started = beside.started or time.time()
    uvicorn.run(
        build(
            model,
            (lambda: beside) if fixed else functools.partial(on_this_machine, model),
            cluster.api_key(),
        ),
        host=host,
        port=int(port),
        log_level="warning",
    )
