"""Envoy's admin interface, on a Unix socket that its user alone can open: what it works by, what it has counted."""

from pathlib import Path

import httpx2


class EnvoyAdmin:
    """The admin interface of one Envoy."""

    def __init__(self, socket: Path) -> None:
        self._client = httpx2.Client(
            transport=httpx2.HTTPTransport(uds=str(socket), verify=False), base_url="http://admin", timeout=10
        )

    def version(self, of: str) -> str:
        """Return the version of a part of the configuration that Envoy works by; empty before it has any.

        Args:
            of: the part, as its statistics name it: "cluster_manager.cds".
        """
        asked = {"filter": f"^{of}.version_text$", "type": "TextReadouts", "format": "json"}
        found = self._client.get("/stats", params=asked).json().get("stats", [])
        return next((str(one["value"]) for one in found if "value" in one), "")

    def rejected(self) -> str:
        """Return in one line which part of the configuration was rejected; its log says why."""
        text = self._client.get("/stats", params={"filter": "update_rejected", "usedonly": ""}).text
        return "; ".join(line for line in text.splitlines() if not line.endswith(": 0")) or "it was not read"

    def statistics(self) -> str:
        """Return all that was counted, in Prometheus' text format."""
        return self._client.get("/stats/prometheus", params={"usedonly": ""}).text

    def active_requests(self, prefix: str) -> int:
        """Return the number of requests that are being answered.

        Args:
            prefix: "http.gateway.downstream_rq_active" for all, "cluster.version-2.upstream_rq_active" for one server's.
        """
        answer = self._client.get("/stats", params={"filter": f"^{prefix}$", "format": "json"}).json()
        return sum(int(one.get("value", 0)) for one in answer.get("stats", []))

    def fail_health_check(self) -> None:
        """Let each answer from now on end its connection, so that its client comes back elsewhere; go on answering."""
        self._client.post("/healthcheck/fail")

    def drain_listeners(self) -> None:
        """Take no connection any more; go on with those that there are."""
        self._client.post("/drain_listeners")
