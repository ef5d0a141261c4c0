"""The HTTP clients: one for addresses that a recipe or a hub gives, and one for this machine and Services."""

from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

from steps.common.runtime.proxies import addresses_of, proxied
from steps.common.web.trusted_hosts import check_address, check_scheme, is_public

CONNECTED = "connection.connect_tcp.complete"


class Hops:
    """The hosts that one request is sent to, by way of redirects, as httpx's extension `trace`.

    The address that is checked is the one that the connection has, before anything is sent over it: what a name resolves
    to may change between a check and a connection.
    """

    def __init__(self) -> None:
        self.host = ""
        self.proxied = False
        self.from_public = False

    def begin(self, url: str) -> None:
        """Note the next host.

        Raises:
            UserError: it may not be asked. Behind a proxy only the name is known.
        """
        self.host, self.proxied = urlsplit(url).hostname or "", proxied(url) or "all" in getproxies()
        if self.proxied:
            for address in addresses_of(self.host):
                check_address(self.host, address, from_public=self.from_public)

    def __call__(self, event: str, info: Any) -> None:
        """Check the address of a new connection.

        Raises:
            UserError: it may not be asked.
        """
        if event == CONNECTED and not self.proxied:
            peer = info["return_value"].get_extra_info("server_addr")
            check_address(self.host, str(peer[0]), from_public=self.from_public)

    def redirect(self, source: str, target: str, peer: str) -> None:
        """Note a redirect.

        Raises:
            UserError: it may not be followed.
        """
        check_scheme(source, target)
        self.from_public = self.from_public or self.proxied or is_public(peer)


def web_client(**options: Any) -> Any:
    """Return an `httpx2.Client` for addresses outside, which follows redirects as `trusted_hosts` allows them.

    A request raises `UserError` where an address may not be asked.
    """
    import httpx2

    def before(request: Any) -> None:
        hops = request.extensions.get("trace")
        if not isinstance(hops, Hops):
            hops = Hops()
            request.extensions = {**request.extensions, "trace": hops}
        hops.begin(str(request.url))

    def after(response: Any) -> None:
        hops, stream = response.request.extensions["trace"], response.extensions.get("network_stream")
        address = stream.get_extra_info("server_addr") if stream else None
        peer = str(address[0]) if address else ""
        if peer and not hops.proxied:  # a connection that is used again was checked for another request
            check_address(hops.host, peer, from_public=hops.from_public)
        if response.has_redirect_location:
            source = str(response.url)
            hops.redirect(source, urljoin(source, response.headers["location"]), peer)

    hooks = options.pop("event_hooks", {})
    merged = {
        "request": [*hooks.get("request", []), before],
        "response": [*hooks.get("response", []), after],
    }
    return httpx2.Client(event_hooks=merged, **{"follow_redirects": True, **options})


def local_client(**options: Any) -> Any:
    """Return an `httpx2.Client` for this machine, pods and Services, which asks no proxy and follows no redirect."""
    import httpx2

    # By default there is no TLS to verify: loading this machine's certificates takes longer than a short answer.
    return httpx2.Client(trust_env=False, **{"verify": False, **options})
