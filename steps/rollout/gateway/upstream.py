"""What a gateway passes requests on to, and what it lets through."""

from pydantic import BaseModel


class Upstream(BaseModel):
    """A model server, and the version that it serves."""

    host: str = "127.0.0.1"  # its address, or a name of several replicas
    port: int
    version: int
    run: str
    base: str
    adapter_sha256: str
    model: str = ""  # to which it answers with this version; empty: the model's own name
    started: float = 0.0  # seconds since 1970; 0: not known

    @property
    def cluster(self) -> str:
        """What Envoy calls the server, in its configuration and its statistics."""
        return f"version-{self.version}-{self.port}"

    @property
    def elsewhere(self) -> bool:
        """Whether it is not on this host."""
        return self.host != "127.0.0.1"


class Rules(BaseModel):
    """Where a model's gateway listens, and what it lets through."""

    name: str  # of the model
    host: str
    port: int
    stats_port: int = 0  # where its statistics, and nothing else, are shown to others; 0: nowhere
    answer_seconds: int  # the longest answer
    request_bytes: int  # the largest request
    requests_per_minute: int = 0  # 0: any number
