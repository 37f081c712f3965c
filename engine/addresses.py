"""Addresses of servers: as they may be shown, without a password, and under another login."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit


def redact(url: str) -> str:
    """Scheme, host, port and path of an address; of one that is not plain, its scheme alone.

    A password with a bare /, ? or # in it ends up in other parts of the address, so an @ in any of
    these gives it away.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        return url if "@" not in url else "…"
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return f"{scheme}://…"
    if not parts.hostname or "@" in parts.path + parts.query + parts.fragment:
        return f"{scheme}://…"
    return f"{scheme}://{parts.hostname}{port}{parts.path}"


def with_login(url: str, login: str) -> str:
    """The address with `login`, user:password as they are, in place of what it has."""
    parts = urlsplit(url)
    user, _, password = login.partition(":")
    at = f"{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=at))
