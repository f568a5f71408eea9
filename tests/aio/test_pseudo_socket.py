from __future__ import annotations

import errno
import itertools
import socket

import pytest

from tcpstack.aio.pseudo_socket import PseudoSocket, socket_address
from tcpstack.core.config import SECOND_NS, Config
from tcpstack.core.connection import Connection
from tcpstack.stack.listener import Listener
from tests.aio.conftest import Join, Pair
from tests.aio.recorder import Recorder, reset

IP_OPTIONS = {
    4: (socket.IPPROTO_IP, socket.IP_TOS, socket.IP_TTL),
    16: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_UNICAST_HOPS),
}
"""Level, traffic class and hop limit, by the length of an address."""


def a_listener() -> Listener:
    return Listener(None, 80, 1, Config(), lambda listener, now_ns: None)


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


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="no such option here")
async def test_cork_holds_text_until_it_is_drawn(join: Join, pair: Pair) -> None:
    sock, client = await connected_socket(join)
    [conn] = pair[1].connections
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 0
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 1
    client.transport.write(b"held, though TCP_NODELAY is on")
    assert conn.unsent_bytes == 30
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    assert conn.unsent_bytes == 0


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="no such option here")
async def test_user_timeout_acts_on_the_connection(join: Join, pair: Pair) -> None:
    sock, _ = await connected_socket(join)
    [conn] = pair[1].connections
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1500)
    assert conn.user_timeout_ns == 1_500_000_000
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500
    with pytest.raises(OSError, match="must be 0 to") as raised:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, -1)
    assert raised.value.errno == errno.EINVAL
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)
    assert conn.user_timeout_ns == Config().r2_ns


@pytest.mark.parametrize("address", [bytes((10, 9, 0, 1)), bytes(15) + b"\1"])
def test_ip_header_options_act_on_the_connection(address: bytes) -> None:
    conn = Connection((address, 1, address, 2), Config(hop_limit=9, traffic_class=8), 0, 1500)
    sock = PseudoSocket(conn, socket_address(address, 1), socket_address(address, 2))
    level, tos, ttl = IP_OPTIONS[len(address)]
    assert [sock.getsockopt(level, option) for option in (tos, ttl)] == [8, 9]
    sock.setsockopt(level, tos, 0xB8)
    sock.setsockopt(level, ttl, (255).to_bytes(4, "little"))
    assert (conn.traffic_class, conn.hop_limit) == (0xB8, 255)
    sock.setsockopt(level, tos, 0x13)
    assert sock.getsockopt(level, tos) == 0x10, "the bits of ECN are not the user's"
    for option, value in ((tos, 256), (ttl, 0), (ttl, 256)):
        with pytest.raises(OSError, match="must be") as raised:
            sock.setsockopt(level, option, value)
        assert raised.value.errno == errno.EINVAL
    assert conn.ip_fields == (255, 0x10)


@pytest.mark.parametrize("size", [4, 16])
def test_ip_header_options_of_the_other_family_and_of_listeners_are_refused(size: int) -> None:
    conn = Connection((bytes(size), 1, bytes(size), 2), Config(), 0, 1500)
    level, tos, ttl = IP_OPTIONS[20 - size]
    sockets = (
        PseudoSocket(conn, socket_address(bytes(size), 1), socket_address(bytes(size), 2)),
        PseudoSocket(a_listener(), socket_address(bytes(20 - size), 1), None),
    )
    for sock, option in itertools.product(sockets, (tos, ttl)):
        for call in (sock.setsockopt, sock.getsockopt):
            with pytest.raises(OSError) as raised:
                call(level, option, 4)
            assert raised.value.errno == errno.ENOPROTOOPT


KEEPALIVE_OPTIONS = {
    socket.TCP_KEEPIDLE: ("idle_ns", 7200, 32767),
    socket.TCP_KEEPINTVL: ("interval_ns", 75, 32767),
    socket.TCP_KEEPCNT: ("probes", 9, 127),
}
"""The field of KeepAliveSettings, the default and the largest value, by option."""


@pytest.mark.rfc9293("MUST-24", "MUST-25", "MUST-27", "MUST-28")
async def test_keepalive_options_act_on_the_connection_and_are_read_back(join: Join, pair: Pair) -> None:
    sock, _ = await connected_socket(join)
    [conn] = pair[1].connections
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    for option, (field, default, largest) in KEEPALIVE_OPTIONS.items():
        assert sock.getsockopt(socket.IPPROTO_TCP, option) == default
        for seconds in (1, largest):
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
            assert sock.getsockopt(socket.IPPROTO_TCP, option) == seconds
            assert getattr(conn.keepalive, field) == seconds * (1 if field == "probes" else SECOND_NS)
        for wrong in (0, -1, largest + 1):
            with pytest.raises(OSError, match=f"must be 1 to {largest}, not {wrong}") as raised:
                sock.setsockopt(socket.IPPROTO_TCP, option, wrong)
            assert raised.value.errno == errno.EINVAL
        assert sock.getsockopt(socket.IPPROTO_TCP, option) == largest
    assert conn.keepalive.on is False
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 2)
    assert conn.keepalive.on is True
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 4) == b"\1\0\0\0"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
    assert conn.keepalive.on is False


def test_keepalive_time_that_is_no_whole_second_is_read_as_the_next() -> None:
    config = Config(keepalive_idle_ns=1, keepalive_interval_ns=SECOND_NS + 1)
    conn = Connection((bytes(4), 1, bytes(4), 2), config, 0, 1500)
    sock = PseudoSocket(conn, ("10.9.0.1", 1), ("10.9.0.1", 2))
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
    assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [1, 2]


async def test_keepalive_options_of_a_server_s_socket_are_its_connections_from_then_on(pair: Pair) -> None:
    a, b = pair
    accepted = [Recorder(), Recorder()]
    waiting = iter(accepted)
    server = await a.create_server(lambda: next(waiting))
    port = server.sockets[0].getsockname()[1]
    await b.create_connection(Recorder, "10.9.0.1", port)
    await accepted[0].until_call("made")
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    ):
        server.sockets[0].setsockopt(level, option, value)
        assert server.sockets[0].getsockopt(level, option) == value
    await b.create_connection(Recorder, "10.9.0.1", port)
    await accepted[1].until_call("made")
    first, second = a.connections
    assert (first.keepalive.on, first.keepalive.idle_ns) == (False, 7200 * SECOND_NS)
    assert (second.keepalive.on, second.keepalive.idle_ns) == (True, 30 * SECOND_NS)


async def test_error_option_has_the_errno_of_which_the_connection_died(join: Join) -> None:
    client, server = Recorder(), Recorder()
    await join(client, server)
    sock = client.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
    reset(server.transport)
    await client.until_call("lost")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


def test_hints_are_remembered_and_unknown_options_refused() -> None:
    sock = PseudoSocket(a_listener(), ("10.9.0.1", 80), None)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    for refused in (
        lambda: sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1),
        lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST),
    ):
        with pytest.raises(OSError) as raised:
            refused()
        assert raised.value.errno == errno.ENOPROTOOPT


def test_listening_socket_has_no_peer_and_cannot_block() -> None:
    sock = PseudoSocket(a_listener(), ("::", 80, 0, 0), None)
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
