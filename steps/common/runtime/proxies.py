"""What is asked without a proxy: this machine, and the Services of its cluster."""

import ipaddress
import os
import socket
import urllib.request
from urllib.parse import urlsplit

from steps.common.runtime import cluster_settings

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
SERVICES = (".svc", ".svc.cluster.local", ".cluster.local")
API_SERVER_SETTING = "KUBERNETES_SERVICE_HOST"
# Addresses that settings name, and that may be Services.
OF_SERVICES = (
    "MLFLOW_TRACKING_URI",
    "FINELINE_KARPENTER_METRICS",
    "FINELINE_PROMETHEUS",
    "FINELINE_WEBHOOK",
    "HF_ENDPOINT",
)


def bypass_proxies() -> None:
    """Make every library of this process and of its children ask this machine and Services directly.

    Libraries read HTTP_PROXY, HTTPS_PROXY and NO_PROXY by themselves.
    """
    wanted = [*THIS_MACHINE]
    if cluster_settings.in_cluster():
        named = [urlsplit(os.environ.get(setting, "")).hostname or "" for setting in OF_SERVICES]
        services = [host for host in named if host and (("." not in host) or _is_private(host))]
        wanted += [*SERVICES, os.environ.get(API_SERVER_SETTING, ""), *services]
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    known = [host.strip() for host in given.split(",")]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, dict.fromkeys([*known, *wanted])))


def proxied(url: str) -> bool:
    """Return whether a proxy is asked for a URL."""
    parts = urlsplit(url)
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.netloc)


def addresses_of(host: str) -> set[str]:
    """Return the IP addresses of a host; none if its name is unknown here."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


def _is_private(host: str) -> bool:
    """Return whether a name such as `karpenter.kube-system` is a Service's or another one of this network."""
    found = addresses_of(host)
    return bool(found) and not any(ipaddress.ip_address(address.partition("%")[0]).is_global for address in found)
