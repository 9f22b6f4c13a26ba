"""Where hosts are, and whether that is on the public Internet: for everything that we connect to on others' behalf."""

import ipaddress
import socket
from collections.abc import Iterator
from typing import Final

from coafi.errors import PolicyDenied, Unavailable

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_REMEDY: Final = "give one on a public host, or allow private addresses in the settings"


def resolve(host: str, port: int, *, what: str, allow_private: bool) -> tuple[str, ...]:
    """The addresses of ``host``, sorted.

    Whoever connects must connect to one of these and not resolve again: the next answer may be another one.

    Args:
        what: whose host it is, for messages.
        allow_private: whether an address may be none of the public Internet.

    Raises:
        PolicyDenied: one of them is not public, and all must be.
        Unavailable: the name cannot be resolved.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(
            f"host {host} of {what} cannot be resolved: {error}",
            remedy="check the name, and the name servers of this machine",
        ) from error
    addresses = sorted({str(ipaddress.ip_address(str(answer[4][0]).partition("%")[0])) for answer in answers})
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise PolicyDenied(f"{what} is at {address}, which is not a public address", remedy=_REMEDY)
    return tuple(addresses)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet, also after unwrapping an IPv4 address within IPv6.

    Not public: private, loopback, link-local (169.254.169.254 too), multicast, reserved and unspecified ones.
    """
    return all(
        candidate.is_global and not candidate.is_multicast and not candidate.is_reserved
        for candidate in _unwrapped(ipaddress.ip_address(address))
    )


def _unwrapped(address: _IPAddress) -> Iterator[_IPAddress]:
    if not isinstance(address, ipaddress.IPv6Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    else:
        yield address
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
