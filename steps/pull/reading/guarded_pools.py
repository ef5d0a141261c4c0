"""Pools of urllib3 connections that look at the address that they are connected to before a request is sent."""

from typing import Any
from urllib.parse import urlsplit

from steps.common.runtime.proxies import addresses_of
from steps.common.web.trusted_hosts import check_address, is_public


def guarded_pools(options: dict[str, Any], *, from_public: bool) -> Any:
    """Return a `PoolManager` whose connections raise `UserError` where `check_address` does.

    Args:
        options: of the PoolManager.
        from_public: its requests follow a redirect of a public address.
    """
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    def guarded(plain: Any) -> Any:
        class Guarded(plain):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                self.peer = str(self.sock.getpeername()[0])
                try:
                    check_address(self.host, self.peer, from_public=from_public)
                except Exception:
                    self.close()
                    raise

        return Guarded

    pools = urllib3.PoolManager(**options)
    pools.pool_classes_by_scheme = {
        "http": type("HTTPPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": guarded(HTTPConnection)}),
        "https": type("HTTPSPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": guarded(HTTPSConnection)}),
    }
    return pools


def check_name(url: str, *, from_public: bool) -> None:
    """Check what a host's name resolves to here: behind a proxy its connection is not seen.

    Raises:
        UserError: see `check_address`.
    """
    host = urlsplit(url).hostname or ""
    for address in addresses_of(host):
        check_address(host, address, from_public=from_public)


def answered_in_public(response: Any) -> bool:
    """Return whether an answer came from a public address, or from one that is not known any more."""
    peer = getattr(response.connection, "peer", "")
    return is_public(peer) if peer else True
