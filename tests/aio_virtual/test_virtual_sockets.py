"""Sockets of simulated hosts do what the kernel's do: each program here runs on both, and comes to the same."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tcpstack.aio.virtual import Simulation

MEGABYTE = bytes(range(256)) * 4096
RESETS = struct.pack("ii", 1, 0)


@dataclass
class Meeting:
    """Where server and client find each other: `ip` is the server's, `address` what it listens at."""

    ip: str
    address: asyncio.Future[Any]


Program = Callable[[Meeting], Awaitable[Any]]
Play = Callable[[Program, Program], tuple[Any, Any]]


async def nobody(meeting: Meeting) -> None:
    """The server of programs that need none."""


@pytest.fixture(params=["kernel", "simulation", "simulated loopback"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a server and a client, and gives their results: on the kernel's loopback, on two simulated hosts, or on
    one."""

    def on_the_kernel(server: Program, client: Program) -> tuple[Any, Any]:
        async def both() -> tuple[Any, Any]:
            meeting = Meeting("127.0.0.1", asyncio.get_running_loop().create_future())
            async with asyncio.timeout(20):
                heard, said = await asyncio.gather(server(meeting), client(meeting))
            return heard, said

        return asyncio.run(both())

    def on_simulated_hosts(server: Program, client: Program) -> tuple[Any, Any]:
        with Simulation(seed=1, within_s=3600) as sim:
            a, b = sim.host("a", "10.0.0.1/24"), sim.host("b", "10.0.0.2/24")
            sim.link(a, b, delay="10ms")
            meeting = Meeting("10.0.0.2", sim.loop.create_future())
            if request.param == "simulated loopback":
                meeting.ip, b = "127.0.0.1", a

            async def of(program: Program) -> Any:
                return await program(meeting)

            heard, said = sim.run(b.spawn(of(server)), a.spawn(of(client)))
            return heard, said

    return on_the_kernel if request.param == "kernel" else on_simulated_hosts


def made(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


def listening(meeting: Meeting) -> socket.socket:
    """Tells the client as well."""
    sock = made()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((meeting.ip, 0))
    sock.listen()
    meeting.address.set_result(sock.getsockname())
    return sock


async def accepted(meeting: Meeting) -> socket.socket:
    with listening(meeting) as listener:
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    return connection


async def connected(meeting: Meeting) -> socket.socket:
    sock = made()
    await asyncio.get_running_loop().sock_connect(sock, await meeting.address)
    return sock


async def everything(sock: socket.socket) -> bytes:
    text = b""
    while some := await asyncio.get_running_loop().sock_recv(sock, 65536):
        text += some
    return text


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """The result, or the name of the errno."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


async def outcome_of(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def test_text_goes_both_ways_until_each_end_has_shut_down(play: Play):
    async def server(meeting: Meeting) -> object:
        with await accepted(meeting) as sock:
            text = await everything(sock)
            await asyncio.get_running_loop().sock_sendall(sock, text[::-1])
            return len(text)

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, MEGABYTE)
            sock.shutdown(socket.SHUT_WR)
            refused = outcome(sock.send, b"more")
            return await everything(sock) == MEGABYTE[::-1], refused

    assert play(server, client) == (len(MEGABYTE), (True, "EPIPE"))


def test_names_of_both_ends(play: Play):
    async def server(meeting: Meeting) -> object:
        with listening(meeting) as listener:
            sock, address = await asyncio.get_running_loop().sock_accept(listener)
            with sock:
                await everything(sock)
                assert sock.getsockname() == listener.getsockname()
                assert sock.gettimeout() == 0
                return address, sock.getpeername()

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as sock:
            assert sock.getpeername() == await meeting.address
            return sock.getsockname(), sock.getsockname()

    heard, said = play(server, client)
    assert heard == said


def test_refused_connection_says_where_to(play: Play):
    async def server(meeting: Meeting) -> None:
        with made() as sock:
            sock.bind((meeting.ip, 0))  # and nobody listens
            meeting.address.set_result(address := sock.getsockname())
        assert address[0] == meeting.ip

    async def client(meeting: Meeting) -> object:
        address = await meeting.address
        with made() as sock:
            with pytest.raises(ConnectionRefusedError) as caught:
                await asyncio.get_running_loop().sock_connect(sock, address)
            assert str(caught.value) == f"[Errno 111] Connect call failed {address}"
            return outcome(sock.getpeername), sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    assert play(server, client)[1] == ("ENOTCONN", 0)


def test_connect_is_in_progress_then_done_then_done_already(play: Play):
    async def server(meeting: Meeting) -> None:
        with await accepted(meeting) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"!")
            await everything(sock)

    async def client(meeting: Meeting) -> object:
        address = await meeting.address
        with made() as sock:
            first = sock.connect_ex(address)
            await asyncio.get_running_loop().sock_recv(sock, 1)
            return [errno.errorcode.get(each, each) for each in (first, *(sock.connect_ex(address) for _ in range(3)))]

    assert play(server, client)[1] == ["EINPROGRESS", 0, "EISCONN", "EISCONN"]


def test_error_of_a_connection_is_told_once(play: Play):
    async def server(meeting: Meeting) -> None:
        with await accepted(meeting) as sock:
            await asyncio.get_running_loop().sock_recv(sock, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"!")
            told = await outcome_of(asyncio.get_running_loop().sock_recv(sock, 1))
            return told, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), sock.recv(1), outcome(sock.send, b"x")

    assert play(server, client)[1] == ("ECONNRESET", 0, b"", "EPIPE")


def test_error_option_takes_the_error(play: Play):
    async def server(meeting: Meeting) -> None:
        with made() as sock:
            sock.bind((meeting.ip, 0))
            meeting.address.set_result(sock.getsockname())

    async def client(meeting: Meeting) -> object:
        with made() as sock:
            sock.connect_ex(await meeting.address)
            await asyncio.sleep(0.1)
            told = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for _ in range(2)]
            return [errno.errorcode.get(each, each) for each in told], outcome(sock.recv, 1), outcome(sock.send, b"!")

    assert play(server, client)[1] == (["ECONNREFUSED", 0], b"", "EPIPE")


def test_socket_that_failed_to_connect_can_try_again(play: Play):
    async def server(meeting: Meeting) -> object:
        with made() as sock:
            sock.bind((meeting.ip, 0))
            meeting.address.set_result(address := sock.getsockname())
            await asyncio.sleep(0.5)
            sock.listen()
            connection, _ = await asyncio.get_running_loop().sock_accept(sock)
            with connection:
                assert connection.getsockname() == address
                return await everything(connection)

    async def client(meeting: Meeting) -> object:
        address = await meeting.address
        with made() as sock:
            told = []
            while not told or told[-1] is not None:
                told.append(await outcome_of(asyncio.get_running_loop().sock_connect(sock, address)))
                await asyncio.sleep(0.3)
            await asyncio.get_running_loop().sock_sendall(sock, b"at last")
            return set(told)

    assert play(server, client) == (b"at last", {"ECONNREFUSED", "ECONNABORTED", None})


def test_socket_without_a_connection(play: Play):
    async def client(meeting: Meeting) -> object:
        with made() as sock:
            found = [
                outcome(sock.recv, 1), outcome(sock.send, b"!"), outcome(sock.getpeername),
                outcome(sock.shutdown, socket.SHUT_WR), outcome(sock.shutdown, 3), outcome(sock.accept),
                sock.getsockname(), sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
            ]  # fmt: skip
            sock.listen(1)
            assert sock.getsockname()[1] > 0
            return [
                *found, sock.getsockname()[0], sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
                outcome(sock.accept), outcome(sock.bind, ("", 0)), outcome(sock.recv, 1), outcome(sock.send, b"!"),
                outcome(sock.shutdown, socket.SHUT_RDWR), outcome(sock.accept),
            ]  # fmt: skip

    assert play(nobody, client)[1] == [
        "ENOTCONN", "EPIPE", "ENOTCONN", "ENOTCONN", "EINVAL", "EINVAL", ("0.0.0.0", 0), 0,
        "0.0.0.0", 1, "EAGAIN", "EINVAL", "ENOTCONN", "EPIPE", None, "EINVAL",
    ]  # fmt: skip


def test_connected_socket_neither_listens_nor_binds(play: Play):
    async def server(meeting: Meeting) -> None:
        with await accepted(meeting) as sock:
            await everything(sock)

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as sock:
            return outcome(sock.listen), outcome(sock.bind, ("", 0)), outcome(sock.accept)

    assert play(server, client)[1] == ("EINVAL", "EINVAL", "EINVAL")


def test_names_that_are_taken_or_none(play: Play):
    async def client(meeting: Meeting) -> object:
        with made() as holder, made() as listener, made() as other:
            holder.bind((meeting.ip, 0))
            listener.bind(("", 0))
            listener.listen()
            found = [
                outcome(other.bind, ("192.0.2.1", 0)),
                outcome(other.bind, (meeting.ip, holder.getsockname()[1])),
                outcome(other.bind, ("", holder.getsockname()[1])),
                outcome(other.bind, (meeting.ip, listener.getsockname()[1])),
            ]
            address = holder.getsockname()
            holder.close()
            return [*found, outcome(other.bind, address), other.getsockname() == address]

    async def server(meeting: Meeting) -> object:
        return await client(meeting)

    assert play(server, nobody)[0] == ["EADDRNOTAVAIL", "EADDRINUSE", "EADDRINUSE", "EADDRINUSE", None, True]


def test_client_speaks_from_the_port_it_was_bound_to(play: Play):
    async def server(meeting: Meeting) -> object:
        with await accepted(meeting) as sock:
            await everything(sock)
            return sock.getpeername()

    async def client(meeting: Meeting) -> object:
        address = await meeting.address
        with made() as sock:
            sock.bind(("", 0))
            port = sock.getsockname()[1]
            await asyncio.get_running_loop().sock_connect(sock, address)
            assert sock.getsockname()[1] == port
            return sock.getsockname()

    heard, said = play(server, client)
    assert heard == said


def test_calls_that_would_block_say_so(play: Play):
    async def server(meeting: Meeting) -> object:
        with listening(meeting) as listener:
            before = outcome(listener.accept)
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            with sock:
                found = [before, outcome(sock.recv, 1), outcome(sock.recv, 1, socket.MSG_DONTWAIT), sock.recv(0)]
                sock.send(b"!")
                await asyncio.sleep(0.5)
                return found, len(await everything(sock))

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as sock:
            await asyncio.get_running_loop().sock_recv(sock, 1)
            sent = 0
            while (taken := outcome(sock.send, bytes(100_000))) != "EAGAIN":
                sent += taken
            assert sent > 100_000
            with pytest.raises(BlockingIOError):
                sock.sendall(b"!")
            return sent

    heard, sent = play(server, client)
    assert heard == (["EAGAIN", "EAGAIN", "EAGAIN", b""], sent)


def test_octets_in_all_their_forms(play: Play):
    async def server(meeting: Meeting) -> object:
        with await accepted(meeting) as sock:
            return await everything(sock)

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as sock:
            numbers = memoryview(struct.pack("3H", 1, 2, 3)).cast("H")
            sent = [sock.send(b""), sock.send(bytearray(b"array")), sock.send(numbers), sock.sendmsg([b"of ", b"two"])]
            sock.sendall(memoryview(b"!"), socket.MSG_NOSIGNAL)
            with pytest.raises(TypeError):
                sock.send("text")  # type: ignore[arg-type]
            return sent

    assert play(server, client) == (b"array" + struct.pack("3H", 1, 2, 3) + b"of two!", [0, 5, 6, 6])


def test_octets_are_received_into_buffers(play: Play):
    async def server(meeting: Meeting) -> None:
        with await accepted(meeting) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"0123456789")

    async def client(meeting: Meeting) -> object:
        loop = asyncio.get_running_loop()
        with await connected(meeting) as sock:
            first, second, third = bytearray(2), bytearray(5), bytearray(20)
            sizes = [await loop.sock_recv_into(sock, first), sock.recv_into(second, 3), sock.recv_into(third)]
            with pytest.raises(ValueError, match="buffer too small"):
                sock.recv_into(first, 3)
            with pytest.raises(ValueError, match="negative buffersize in recv"):
                sock.recv(-1)
            return sizes, bytes(first), bytes(second), bytes(third), await loop.sock_recv_into(sock, first)

    expected = ([2, 3, 5], b"01", b"234\0\0", b"56789".ljust(20, b"\0"), 0)
    assert play(server, client)[1] == expected


def test_end_that_has_shut_down_reading_reads_what_is_there_and_then_the_end(play: Play):
    async def server(meeting: Meeting) -> object:
        with await accepted(meeting) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"said before")
            return await everything(sock)

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as sock:
            await asyncio.sleep(0.2)
            sock.shutdown(socket.SHUT_RD)
            read = [sock.recv(100), sock.recv(100)]
            await asyncio.get_running_loop().sock_sendall(sock, b"still heard")
            return read

    assert play(server, client) == (b"still heard", [b"said before", b""])


def test_closing_with_text_unread_resets(play: Play):
    async def server(meeting: Meeting) -> None:
        with await accepted(meeting):
            await asyncio.sleep(0.2)

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"never read")
            return await outcome_of(asyncio.get_running_loop().sock_recv(sock, 1))

    assert play(server, client)[1] == "ECONNRESET"


def test_what_was_sent_before_closing_arrives(play: Play):
    async def server(meeting: Meeting) -> object:
        with await accepted(meeting) as sock:
            await asyncio.sleep(0.2)
            return len(await everything(sock))

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as sock:
            return sock.send(bytes(100_000))

    heard, sent = play(server, client)
    assert heard == sent


def test_closed_socket_is_none(play: Play):
    async def client(meeting: Meeting) -> object:
        sock = made(socket.AF_INET6)
        assert sock.fileno() > 0
        sock.close()
        sock.close()
        calls = (
            (sock.recv, 1), (sock.send, b"!"), (sock.bind, ("::", 0)), (sock.listen,), (sock.accept,),
            (sock.getsockname,), (sock.connect, ("::1", 1)), (sock.shutdown, 1), (sock.getsockopt, 1, 2),
            (sock.setsockopt, 1, 2, 1),
        )  # fmt: skip
        assert "[closed] fd=-1" in repr(sock)
        return sock.fileno(), sock.family, {outcome(*call) for call in calls}

    assert play(nobody, client)[1] == (-1, socket.AF_INET6, {"EBADF"})


SOL, TCP, IP = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP


@pytest.mark.parametrize(
    ("level", "name", "value", "expected"),
    [
        (TCP, socket.TCP_NODELAY, 1, 1),
        (TCP, socket.TCP_NODELAY, 0, 0),
        (TCP, socket.TCP_CORK, 1, 1),
        (TCP, socket.TCP_USER_TIMEOUT, 9000, 9000),
        (TCP, socket.TCP_USER_TIMEOUT, -1, "EINVAL"),
        (SOL, socket.SO_KEEPALIVE, 1, 1),
        (TCP, socket.TCP_KEEPIDLE, 60, 60),
        (TCP, socket.TCP_KEEPIDLE, 0, "EINVAL"),
        (TCP, socket.TCP_KEEPINTVL, 7, 7),
        (TCP, socket.TCP_KEEPCNT, 3, 3),
        (TCP, socket.TCP_KEEPCNT, 128, "EINVAL"),
        (SOL, socket.SO_REUSEADDR, 1, 1),
        (SOL, socket.SO_SNDBUF, 20_000, 40_000),
        (SOL, socket.SO_RCVBUF, 20_000, 40_000),
        (IP, socket.IP_TTL, 9, 9),
        (IP, socket.IP_TTL, 256, "EINVAL"),
        (IP, socket.IP_TOS, 0x13, 0x10),
        (SOL, socket.SO_LINGER, RESETS, 1),
        (SOL, socket.SO_LINGER, 1, "EINVAL"),
        (TCP, 99, 1, "ENOPROTOOPT"),
    ],
)
def test_option_is_as_it_was_set_before_and_after_connecting(
    play: Play, level: int, name: int, value: Any, expected: Any
):
    def setting(sock: socket.socket) -> Any:
        failure = outcome(sock.setsockopt, level, name, value)
        return failure or sock.getsockopt(level, name)

    async def server(meeting: Meeting) -> object:
        with await accepted(meeting) as sock:
            return setting(sock)

    async def client(meeting: Meeting) -> object:
        address = await meeting.address
        with made() as sock:
            found = setting(sock)
            await asyncio.get_running_loop().sock_connect(sock, address)
            assert expected in ("EINVAL", "ENOPROTOOPT") or sock.getsockopt(level, name) == expected
            return found

    assert play(server, client) == (expected, expected)


def test_accepted_socket_has_the_options_of_its_listener(play: Play):
    chosen = [(TCP, socket.TCP_NODELAY, 1), (SOL, socket.SO_KEEPALIVE, 1), (TCP, socket.TCP_KEEPIDLE, 11)]

    async def server(meeting: Meeting) -> object:
        with listening(meeting) as listener:
            for option in chosen:
                listener.setsockopt(*option)
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            with sock:
                return [sock.getsockopt(level, name) for level, name, _ in chosen]

    async def client(meeting: Meeting) -> None:
        with await connected(meeting) as sock:
            await everything(sock)

    assert play(server, client)[0] == [1, 1, 11]


def test_options_that_are_only_read(play: Play):
    async def client(meeting: Meeting) -> object:
        with made(socket.AF_INET6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            return [
                sock.getsockopt(SOL, socket.SO_TYPE), sock.getsockopt(SOL, socket.SO_DOMAIN),
                sock.getsockopt(SOL, socket.SO_PROTOCOL), sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
                sock.getsockopt(SOL, socket.SO_TYPE, 4), sock.getsockopt(SOL, socket.SO_LINGER, 8),
                outcome(sock.getsockopt, TCP, 99), sock.family, sock.type,
            ]  # fmt: skip

    assert play(nobody, client)[1] == [
        socket.SOCK_STREAM, socket.AF_INET6, socket.IPPROTO_TCP, 1,
        struct.pack("i", socket.SOCK_STREAM), bytes(8), "ENOPROTOOPT", socket.AF_INET6, socket.SOCK_STREAM,
    ]  # fmt: skip


def test_socket_of_both_families_writes_ipv4_peers_as_mapped(play: Play):
    async def server(meeting: Meeting) -> object:
        loop = asyncio.get_running_loop()
        with made(socket.AF_INET6) as listener:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", 0))
            too_late = outcome(listener.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.listen()
            meeting.address.set_result((meeting.ip, listener.getsockname()[1]))
            sock, address = await loop.sock_accept(listener)
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock)
            names = address, transport.get_extra_info("peername")
            transport.close()
            return too_late, names

    async def client(meeting: Meeting) -> object:
        loop = asyncio.get_running_loop()
        ip, port = await meeting.address
        with made(socket.AF_INET6) as sock:
            await loop.sock_connect(sock, (f"::ffff:{ip}", port))
            await everything(sock)
            return sock.getsockname()

    heard, said = play(server, client)
    assert said[0].startswith("::ffff:")
    assert heard == ("EINVAL", (said, said))


def test_listeners_of_the_two_families_share_a_port(play: Play):
    async def client(meeting: Meeting) -> object:
        with made() as four, made(socket.AF_INET6) as six, made(socket.AF_INET6) as both:
            four.bind(("0.0.0.0", 0))
            port = four.getsockname()[1]
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            found = [outcome(both.bind, ("::", port)), outcome(six.bind, ("::", port))]
            four.listen()
            six.listen()
            return [*found, six.getsockname(), outcome(both.bind, ("::", port))], port

    found, port = play(nobody, client)[1]
    assert found == ["EADDRINUSE", None, ("::", port, 0, 0), "EADDRINUSE"]


def test_sockets_become_streams_and_servers(play: Play):
    async def server(meeting: Meeting) -> object:
        heard: list[bytes] = []
        done = asyncio.Event()

        async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readline())
            writer.write(heard[-1].upper())
            writer.close()
            await writer.wait_closed()
            done.set()

        listener = made()
        listener.bind((meeting.ip, 0))
        serving = await asyncio.start_server(on_client, sock=listener)
        assert serving.sockets[0].getsockname() == listener.getsockname()
        assert listener.getsockopt(SOL, socket.SO_ACCEPTCONN)
        meeting.address.set_result(listener.getsockname())
        async with serving:
            await done.wait()
        return heard

    async def client(meeting: Meeting) -> object:
        sock = await connected(meeting)
        reader, writer = await asyncio.open_connection(sock=sock)
        assert writer.get_extra_info("sockname") == sock.getsockname()
        with pytest.raises(RuntimeError, match="is used by transport"):
            await asyncio.get_running_loop().sock_recv(sock, 1)
        writer.write(b"hello\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    assert play(server, client) == ([b"hello\n"], b"HELLO\n")


def test_socket_that_is_still_being_connected_becomes_a_stream(play: Play):
    async def server(meeting: Meeting) -> object:
        with await accepted(meeting) as sock:
            return await everything(sock)

    async def client(meeting: Meeting) -> None:
        sock = made()
        assert sock.connect_ex(await meeting.address) == errno.EINPROGRESS
        _, writer = await asyncio.open_connection(sock=sock)
        writer.write(b"hello")
        writer.close()
        await writer.wait_closed()

    assert play(server, client)[0] == b"hello"


def test_server_takes_over_what_waits_to_be_accepted(play: Play):
    async def server(meeting: Meeting) -> object:
        with listening(meeting) as listener:
            await asyncio.sleep(0.3)
            heard = asyncio.get_running_loop().create_future()

            async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                heard.set_result(await reader.read())
                writer.close()

            serving = await asyncio.start_server(on_client, sock=listener)
            async with serving:
                return await heard

    async def client(meeting: Meeting) -> None:
        with await connected(meeting) as sock:
            sock.send(b"early")

    assert play(server, client)[0] == b"early"


def test_socket_besides_host_and_port_is_one_too_many(play: Play):
    async def client(meeting: Meeting) -> None:
        loop = asyncio.get_running_loop()
        with made() as sock:
            with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
                await loop.create_connection(asyncio.Protocol, "127.0.0.1", 80, sock=sock)  # type: ignore[call-overload]
            with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
                await loop.create_server(asyncio.Protocol, "127.0.0.1", 80, sock=sock)  # type: ignore[call-overload]

    play(nobody, client)


def test_file_is_sent(play: Play):
    async def server(meeting: Meeting) -> object:
        with await accepted(meeting) as sock:
            return await everything(sock) == MEGABYTE[10:-20]

    async def client(meeting: Meeting) -> object:
        with tempfile.TemporaryFile() as file, await connected(meeting) as sock:
            file.write(MEGABYTE)
            file.seek(0)
            sent = await asyncio.get_running_loop().sock_sendfile(sock, file, 10, len(MEGABYTE) - 30)
            return sent, file.tell()

    assert play(server, client) == (True, (len(MEGABYTE) - 30, len(MEGABYTE) - 20))


def test_connection_ends_with_its_last_holder(play: Play):
    async def server(meeting: Meeting) -> object:
        with await accepted(meeting) as sock:
            return await everything(sock)

    async def client(meeting: Meeting) -> object:
        sock = await connected(meeting)
        twin = sock.dup()
        assert twin.gettimeout() == 0
        sock.close()
        twin.send(b"twin, ")
        number = twin.detach()
        assert twin.fileno() == -1
        again = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=number)
        again.setblocking(False)
        assert again.fileno() == number
        again.send(b"again, ")
        with again.makefile("wb", buffering=0) as file:
            again.close()
            file.write(b"file")
        return outcome(again.send, b"!")

    assert play(server, client) == (b"twin, again, file", "EBADF")


def test_functions_that_make_listeners(play: Play):
    async def server(meeting: Meeting) -> object:
        assert socket.has_dualstack_ipv6()
        with socket.create_server((meeting.ip, 0)) as listener:
            listener.setblocking(False)
            meeting.address.set_result(listener.getsockname())
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            with sock:
                return await everything(sock)

    async def client(meeting: Meeting) -> None:
        with await connected(meeting) as sock:
            sock.send(b"!")

    assert play(server, client)[0] == b"!"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda sock: sock.bind(("127.0.0.1", 70000)), OverflowError),
        (lambda sock: sock.bind(("127.0.0.1",)), TypeError),
        (lambda sock: sock.bind("127.0.0.1"), TypeError),
        (lambda sock: sock.connect(("127.0.0.1", "http")), TypeError),
        (lambda sock: sock.connect(("nowhere.invalid", 80)), socket.gaierror),
        (lambda sock: sock.settimeout(-1), ValueError),
        (lambda sock: sock.setsockopt(SOL, socket.SO_KEEPALIVE, "1"), TypeError),
        (lambda sock: sock.recv_into(b"constant"), TypeError),
    ],
)
def test_arguments_that_make_no_sense(play: Play, call: Callable[[socket.socket], Any], error: type[Exception]):
    async def client(meeting: Meeting) -> None:
        with made() as sock, pytest.raises(error):
            call(sock)

    play(nobody, client)


def test_timeout_is_kept(play: Play):
    async def client(meeting: Meeting) -> object:
        with socket.socket() as sock, socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as other:
            found = [sock.gettimeout(), sock.getblocking(), other.gettimeout(), other.type]
            sock.settimeout(2)
            found += [sock.gettimeout(), sock.timeout, sock.getblocking()]
            sock.settimeout(0)
            return [*found, sock.getblocking()]

    assert play(nobody, client)[1] == [None, True, 0.0, socket.SOCK_STREAM, 2.0, 2.0, True, False]


def test_loop_that_debugs_wants_sockets_that_do_not_block(play: Play):
    async def client(meeting: Meeting) -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        with socket.socket() as sock, pytest.raises(ValueError, match="the socket must be non-blocking"):
            await loop.sock_recv(sock, 1)
        loop.set_debug(False)

    play(nobody, client)


def test_connections_are_accepted_in_order(play: Play):
    async def server(meeting: Meeting) -> object:
        loop = asyncio.get_running_loop()
        with listening(meeting) as listener:
            names = []
            for _ in range(2):
                sock, address = await loop.sock_accept(listener)
                with sock:
                    names.append(address)
            return names

    async def client(meeting: Meeting) -> object:
        with await connected(meeting) as first, await connected(meeting) as second:
            return [first.getsockname(), second.getsockname()]

    heard, said = play(server, client)
    assert heard == said


def test_it_is_a_socket(play: Play):
    async def client(meeting: Meeting) -> object:
        with made() as sock:
            assert isinstance(sock, socket.socket)
            assert sock in {sock, made_and_closed()}
            assert sock != made_and_closed()
            return sock.proto in (0, socket.IPPROTO_TCP)

    assert play(nobody, client)[1]


def made_and_closed() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock
