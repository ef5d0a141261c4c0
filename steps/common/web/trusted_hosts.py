"""Where a token may be sent, and where a redirect may lead."""

import ipaddress
import os
from urllib.parse import urlsplit

from steps.common.runtime.errors import UserError
from steps.common.runtime.redaction import without_credentials

TRUSTED_SETTING = "FINELINE_TRUSTED_HOSTS"  # hosts of one's own network, separated by commas
# Addresses at which clouds hand out a machine's own credentials, besides 169.254.0.0/16 and fe80::/10.
METADATA = {ipaddress.ip_address(address) for address in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")}
LOOPBACK = "localhost"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_trusted(host: str) -> bool:
    """Return whether the settings name a host as one of the own network."""
    named = {one.strip().lower() for one in os.environ.get(TRUSTED_SETTING, "").split(",")}
    return host.lower() in named - {""}


def may_be_sent_a_token(url: str) -> bool:
    """Return whether a token may go to a URL: over https, to this machine, or to a trusted host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" or _is_loopback(host) or is_trusted(host)


def check_token(url: str, setting: str) -> None:
    """Refuse to send a token in the clear.

    Raises:
        UserError: the URL is neither https nor of this machine or a trusted host.
    """
    if not may_be_sent_a_token(url):
        host = urlsplit(url).hostname or ""
        raise UserError(
            f"{without_credentials(url)}: is not https, and {setting} would be sent in the clear; use https, or add "
            f"{host!r} to {TRUSTED_SETTING}"
        )


def check_scheme(source: str, target: str) -> None:
    """Refuse a redirect from https to anything else, and from http to anything but http and https.

    Raises:
        UserError: the schemes differ in this way.
    """
    old, new = urlsplit(source).scheme, urlsplit(target).scheme
    if new not in (old, "https"):
        raise UserError(f"{without_credentials(source)}: redirects from {old} to {new}, which is not followed")


def check_address(host: str, address: str, *, from_public: bool) -> None:
    """Refuse an address that a request may not be sent to.

    Args:
        host: the host's name, for the message.
        address: its IP address.
        from_public: a public address has redirected to it.

    Raises:
        UserError: it is link-local or a cloud's metadata service; or it is private, and a public address has redirected to it.
    """
    found = _parsed(address)
    if found is None:
        return
    if found.is_link_local or found in METADATA:
        raise UserError(f"{host}: is at {found}, where a cloud keeps a machine's credentials; it is never asked")
    if from_public and not is_public(address) and not is_trusted(host):
        raise UserError(
            f"{host}: a public address redirects to it, and it is private ({found}); if that is meant, add {host!r} to "
            f"{TRUSTED_SETTING}"
        )


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the internet: neither private, shared, loopback nor reserved."""
    found = _parsed(address)
    return found is not None and found.is_global


def _parsed(address: str) -> Address | None:
    try:
        found: Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _is_loopback(host: str) -> bool:
    found = _parsed(host)
    return host.lower() == LOOPBACK or (found is not None and found.is_loopback)
