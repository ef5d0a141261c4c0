"""The application: its routes, the middleware in front of them, and the OpenAPI document."""

from typing import Literal

from fastapi import FastAPI
from pydantic import BaseModel

from api.api_settings import ApiSettings
from api.error_answers import ErrorAnswer, add_error_handlers
from api.request_limits import RequestLimits
from api.server import file_routes, front_door_routes, job_routes, model_routes
from api.server.authentication import Authentication
from api.server.services import Services
from api.teams.request_rate import RequestRate

PREFIX = "/v1"
ROUTERS = (file_routes.router, job_routes.router, model_routes.router, front_door_routes.router)


class Health(BaseModel):
    """The health of the server."""

    status: Literal["ok"] = "ok"


def create_app(services: Services, settings: ApiSettings) -> FastAPI:
    """Return the application, with the state that its routes share."""
    app = FastAPI(
        title="Fineline",
        description="OpenAI's API for fine-tuning models, and for querying the tuned ones.",
        version="1",
        # These pages load their scripts from the internet, which may be out of reach.
        docs_url=None,
        redoc_url=None,
        # A client may follow a redirect without its key.
        redirect_slashes=False,
    )
    app.state.services, app.state.settings = services, settings
    for router in ROUTERS:
        app.include_router(
            router, prefix=PREFIX, responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}}
        )

    @app.get("/health", tags=["Server"])
    async def health() -> Health:
        """Report that the server answers."""
        return Health()

    add_error_handlers(app)
    # The middleware that is added last sees a request first.
    app.add_middleware(
        RequestLimits,
        max_upload_bytes=settings.max_upload_bytes,
        uploads={f"{PREFIX}{file_routes.PATH}"},
        chats={f"{PREFIX}/{path}" for path in front_door_routes.PATHS},
    )
    app.add_middleware(Authentication, services=services, rate=RequestRate())
    return app
