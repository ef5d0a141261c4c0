"""The upstream of a gateway, and the rules for its requests."""

from pydantic import BaseModel


class Upstream(BaseModel):
    """A model server, and the version that it serves."""

    host: str = "127.0.0.1"  # an address, or a name that resolves to several replicas
    port: int
    version: int
    run: str
    base: str
    adapter_sha256: str
    model: str = ""  # the server's name of this version; empty: the model's public name
    started: float = 0.0  # seconds since 1970; 0: unknown

    @property
    def cluster(self) -> str:
        """Envoy's name of the server, in its configuration and its statistics."""
        return f"version-{self.version}-{self.port}"

    @property
    def elsewhere(self) -> bool:
        """Whether the server is on another host."""
        return self.host != "127.0.0.1"


class Rules(BaseModel):
    """Where a model's gateway listens, and which requests it accepts."""

    name: str  # public name of the model
    host: str
    port: int
    stats_port: int = 0  # for the statistics only; 0: none
    answer_seconds: int  # time limit of an answer
    request_bytes: int  # size limit of a request
    requests_per_minute: int = 0  # 0: unlimited
