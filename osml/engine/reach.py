"""Whether a Ray cluster answers at an address, told within seconds; Ray itself would try for minutes."""

from __future__ import annotations

import contextlib
import socket

from osml.errors import ClusterError

TIMEOUT_S = 5.0
# What a client of HTTP/2, and so of gRPC, says first (RFC 9113, 3.4), with an empty frame of settings; the server's
# first frame is one of settings too: type 4 at byte 3 of its header.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HEADER, _SETTINGS = 9, 4


def reach(address: str) -> None:
    """Return if a server of Ray's kind answers.

    Raises
    ------
    ClusterError
        Nothing answers, or something else does.
    """
    host, _, port = address.rpartition(":")
    heard = b""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S) as line:
            line.sendall(_HELLO)
            with contextlib.suppress(OSError):
                while len(heard) < _HEADER and (more := line.recv(_HEADER - len(heard))):
                    heard += more
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}: {error.strerror or error}",
            do="Start one with `ray start --head` (it prints its address), or use --engine local.",
        ) from None
    if len(heard) < _HEADER or heard[3] != _SETTINGS:
        raise ClusterError(
            f"what answers at {address} is no Ray cluster",
            do="Give the address that `ray start --head` printed; its default port is 6379.",
        )
