from __future__ import annotations

import errno
import socket

import pytest

from tcpstack.aio.pseudo_socket import PseudoSocket, socket_address
from tests.aio.conftest import Join, Pair
from tests.aio.recorder import Recorder


async def connected_socket(join: Join) -> tuple[PseudoSocket, Recorder]:
    client, server = Recorder(), Recorder()
    await join(client, server)
    return client.transport.get_extra_info("socket"), client


async def test_socket_of_a_connection_names_it_as_a_kernel_s_would(join: Join) -> None:
    sock, client = await connected_socket(join)
    assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    assert sock.getpeername() == client.transport.get_extra_info("peername")
    assert sock.getsockname() == client.transport.get_extra_info("sockname")
    assert sock.fileno() == -1
    assert client.transport.get_extra_info("socket") is sock
    assert "laddr=('10.9.0.2'" in repr(sock)


async def test_nodelay_acts_on_the_connection(join: Join, pair: Pair) -> None:
    sock, _ = await connected_socket(join)
    [conn] = pair[1].connections
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1, "on, as asyncio has it"
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    assert conn.nodelay is False
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, (1).to_bytes(4, "little"))
    assert conn.nodelay is True
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 4) == b"\1\0\0\0"


async def test_nodelay_switched_on_sends_what_nagle_held(join: Join, pair: Pair) -> None:
    sock, client = await connected_socket(join)
    [conn] = pair[1].connections
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    client.transport.write(b"first, unacknowledged")
    client.transport.write(b"held")
    assert conn.unsent_bytes == 4
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert conn.unsent_bytes == 0


async def test_error_option_has_the_errno_of_which_the_connection_died(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    sock = client.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
    server.transport.abort()
    await client.until_call("lost")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


def test_hints_are_remembered_and_unknown_options_refused() -> None:
    sock = PseudoSocket(None, ("10.9.0.1", 80), None)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    for refused in (
        lambda: sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\0" * 8),
        lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER),
    ):
        with pytest.raises(OSError) as raised:
            refused()
        assert raised.value.errno == errno.ENOPROTOOPT


def test_listening_socket_has_no_peer_and_cannot_block() -> None:
    sock = PseudoSocket(None, ("::", 80, 0, 0), None)
    assert sock.family == socket.AF_INET6
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    with pytest.raises(OSError) as raised:
        sock.getpeername()
    assert raised.value.errno == errno.ENOTCONN
    assert sock.gettimeout() == 0.0
    sock.settimeout(0)
    sock.setblocking(False)
    with pytest.raises(ValueError, match="only 0"):
        sock.settimeout(None)
    with pytest.raises(ValueError, match="cannot be blocking"):
        sock.setblocking(True)


@pytest.mark.parametrize(
    ("packed", "expected"),
    [(bytes([10, 9, 0, 1]), ("10.9.0.1", 7)), (bytes(15) + b"\1", ("::1", 7, 0, 0))],
)
def test_socket_address_has_two_elements_for_ipv4_and_four_for_ipv6(
    packed: bytes, expected: tuple[object, ...]
) -> None:
    assert socket_address(packed, 7) == expected
