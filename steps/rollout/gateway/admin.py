"""Envoy's admin interface, on a Unix socket that only its user can open."""

from pathlib import Path

import httpx2


class EnvoyAdmin:
    """The admin interface of one Envoy."""

    def __init__(self, socket: Path) -> None:
        self._client = httpx2.Client(
            transport=httpx2.HTTPTransport(uds=str(socket), verify=False), base_url="http://admin", timeout=10
        )

    def version(self, of: str) -> str:
        """Return the version of a part of Envoy's configuration that is in effect; empty before there is one.

        Args:
            of: prefix of the part's statistics, such as "cluster_manager.cds".
        """
        asked = {"filter": f"^{of}.version_text$", "type": "TextReadouts", "format": "json"}
        found = self._client.get("/stats", params=asked).json().get("stats", [])
        return next((str(one["value"]) for one in found if "value" in one), "")

    def rejected(self) -> str:
        """Return, in one line, which parts of the configuration Envoy has rejected; its log says why."""
        text = self._client.get("/stats", params={"filter": "update_rejected", "usedonly": ""}).text
        return "; ".join(line for line in text.splitlines() if not line.endswith(": 0")) or "Envoy has not read it"

    def statistics(self) -> str:
        """Return all statistics, in Prometheus' text format."""
        return self._client.get("/stats/prometheus", params={"usedonly": ""}).text

    def active_requests(self, prefix: str) -> int:
        """Return the number of requests that are being answered.

        Args:
            prefix: "http.gateway.downstream_rq_active" for all, "cluster.version-2.upstream_rq_active" for those of one server.
        """
        answer = self._client.get("/stats", params={"filter": f"^{prefix}$", "format": "json"}).json()
        return sum(int(one.get("value", 0)) for one in answer.get("stats", []))

    def fail_health_check(self) -> None:
        """Make every answer close its connection from now on, so that clients connect again elsewhere; still answer."""
        self._client.post("/healthcheck/fail")

    def drain_listeners(self) -> None:
        """Accept no new connections; keep those that are open."""
        self._client.post("/drain_listeners")
