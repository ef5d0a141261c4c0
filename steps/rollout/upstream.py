"""What a gateway passes requests on to."""

from pydantic import BaseModel


class Upstream(BaseModel):
    """A model server, and the version that it serves."""

    url: str
    version: int
    run: str
    base: str
    adapter_sha256: str
    model: str = ""  # to which it answers with this version; empty: the model's own name
    started: float = 0.0  # seconds since 1970; 0: not known
