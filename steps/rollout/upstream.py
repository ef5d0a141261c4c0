"""What a gateway passes requests on to, and what it lets through."""

from pydantic import BaseModel


class Upstream(BaseModel):
    """A model server that listens on this host, and the version that it serves."""

    port: int
    version: int
    run: str
    base: str
    adapter_sha256: str
    started: float = 0.0  # seconds since 1970; 0: not known

    @property
    def cluster(self) -> str:
        """What Envoy calls the server, in its configuration and its statistics."""
        return f"version-{self.version}-{self.port}"


class Rules(BaseModel):
    """Where a model's gateway listens, and what it lets through."""

    name: str  # of the model
    host: str
    port: int
    stats_port: int = 0  # where its statistics, and nothing else, are shown to others; 0: nowhere
    answer_seconds: int  # the longest answer
    request_bytes: int  # the largest request
    requests_per_minute: int = 0  # 0: any number
