"""What users talk to: the OpenAI paths of the model that now serves, at an address that stays when versions change.

    python -m steps.rollout.gateway NAME HOST PORT

`transformers serve` also has paths that load other models and reset the server, for whoever can reach it. Only the
paths below are passed on. Which server they go to is read from a file at each request, so a new version takes over
between two requests, and answers under way are finished by the old one.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from steps.common import serving

PASSED_ON = ("chat/completions", "completions", "responses")
LONGEST_SECONDS = 600.0


def build(name: str) -> FastAPI:
    """Return the gateway of the model `name` as an ASGI application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(LONGEST_SECONDS, connect=5)) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/v1/models")
    async def models() -> Response:
        server = serving.server(name)
        data = [_model(server)] if server else []
        return JSONResponse({"object": "list", "data": data})

    @app.get("/health")
    async def health(request: Request) -> Response:
        server = serving.server(name)
        if server is None:
            return JSONResponse({"status": "no model server is running"}, 503)
        try:
            answer = await request.app.state.client.get(f"http://127.0.0.1:{server.process.port}/health")
        except httpx2.HTTPError as error:
            return JSONResponse({"status": str(error) or type(error).__name__}, 503)
        return JSONResponse({"status": "ok", "version": server.version}, answer.status_code)

    for path in PASSED_ON:
        app.add_api_route(f"/v1/{path}", _passer(name, path), methods=["POST"])
    return app


def _model(server: serving.Server) -> dict[str, Any]:
    lineage = {"version": server.version, "adapter_sha256": server.adapter_sha256, "run": server.run}
    created = int(server.process.started)
    return {
        "id": server.name,
        "object": "model",
        "created": created,
        "owned_by": "fineline",
        "parent": server.base,
        **lineage,
    }


def _passer(name: str, path: str) -> Any:
    async def pass_on(request: Request) -> Response:
        server = serving.server(name)
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
        url = f"http://127.0.0.1:{server.process.port}/v1/{path}"
        try:
            answer = await client.send(client.build_request("POST", url, json={**body, "model": name}), stream=True)
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
    uvicorn.run(build(sys.argv[1]), host=sys.argv[2], port=int(sys.argv[3]), log_level="warning")
