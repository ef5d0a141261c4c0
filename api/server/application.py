"""The application: every route, what stands before them, and the OpenAPI document."""

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

ROUTERS = (file_routes.router, job_routes.router, model_routes.router, front_door_routes.router)


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"] = "ok"


def create_app(services: Services, settings: ApiSettings) -> FastAPI:
    """Return the application over the state that its routes share."""
    app = FastAPI(
        title="Fineline",
        description="OpenAI's API for fine-tuning, and for asking the models that it makes.",
        version="1",
        # A page that loads its scripts from elsewhere is of no use to a server without the internet.
        docs_url=None,
        redoc_url=None,
        # To an address without the slash, which a client would follow without its key.
        redirect_slashes=False,
    )
    app.state.services, app.state.settings = services, settings
    for router in ROUTERS:
        app.include_router(
            router, prefix="/v1", responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}}
        )

    @app.get("/health", tags=["Server"])
    def health() -> Health:
        """Tell that the server answers."""
        return Health()

    add_error_handlers(app)
    # The last one that is added is the first to see a request.
    app.add_middleware(RequestLimits, max_upload_bytes=settings.max_upload_bytes)
    app.add_middleware(Authentication, services=services, rate=RequestRate())
    return app
