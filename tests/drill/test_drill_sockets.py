"""Linux's socket calls on the engine, as scripts see them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpstack.drill.run import PASSED, Result

Drill = Callable[..., Result]


def passes(result: Result) -> bool:
    assert result.verdict == PASSED, result.message
    return True


def test_descriptors_are_names_and_may_have_any_number(drill: Drill) -> None:
    text = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 42\n+0 bind(42, ..., ...) = 0\n+0 close(42) = 0\n"

    assert passes(drill(text + "+0 close(42) = -1 EBADF (Bad file descriptor)\n", before=""))


def test_bind_takes_an_address_and_refuses_a_foreign_one(drill: Drill) -> None:
    text = "+0 bind(3, {sa_family = AF_INET, sin_port = htons(99), sin_addr = inet_addr(\"%s\")}, 16) = %s\n"
    socket = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"

    assert passes(drill(socket + text % ("192.168.0.1", "0"), before=""))
    assert passes(drill(socket + text % ("1.2.3.4", "-1 EADDRNOTAVAIL (no such)"), before=""))


def test_two_listeners_on_one_port(drill: Drill) -> None:
    assert passes(drill(
        "+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 5\n+0 bind(5, ..., ...) = 0\n"
        "+0 listen(5, 1) = -1 EADDRINUSE (Address already in use)\n"
    ))  # fmt: skip


def test_calls_on_a_socket_that_is_not_connected(drill: Drill) -> None:
    assert passes(drill(
        "0 socket(..., SOCK_STREAM|SOCK_NONBLOCK, IPPROTO_TCP) = 3\n"
        "+0 fcntl(3, F_GETFL) = 0x802 (flags O_RDWR|O_NONBLOCK)\n"
        "+0 read(3, ..., 10) = -1 ENOTCONN (Transport endpoint is not connected)\n"
        "+0 write(3, ..., 10) = -1 EPIPE (Broken pipe)\n"
        "+0 shutdown(3, SHUT_WR) = -1 ENOTCONN (Transport endpoint is not connected)\n"
        "+0 accept(3, ..., ...) = -1 EINVAL (Invalid argument)\n"
        "+0 poll([{fd=3, events=POLLIN|POLLOUT, revents=POLLOUT|POLLHUP}], 1, 0) = 1\n",
        before="",
    ))  # fmt: skip


def test_accept_without_a_connection(drill: Drill, listening: str) -> None:
    assert passes(drill(
        "+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n"
        "+0 accept(3, ..., ...) = -1 EAGAIN (Resource temporarily unavailable)\n", before=listening,
    ))  # fmt: skip


def test_accept4_makes_the_new_socket_nonblocking(drill: Drill) -> None:
    assert passes(drill(
        "+0 < 7>8080 S 0:0(0) win 32792 <mss 1000>\n+0 > 8080>7 S. 0:0(0) ack 1 <mss 1460>\n"
        "+0 < 7>8080 . 1:1(0) ack 1 win 32792\n"
        "+0 accept4(3, ..., ..., SOCK_NONBLOCK) = 5\n+0 read(5, ..., 1) = -1 EAGAIN (would block)\n"
    ))  # fmt: skip


def test_an_error_is_told_once(drill: Drill) -> None:
    assert passes(drill(
        "+0 < R 1:1(0) win 0\n+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [ECONNRESET], [4]) = 0\n"
        "+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [0], [4]) = 0\n+0 read(4, ..., 1) = 0\n"
    ))  # fmt: skip


def test_text_before_a_reset_can_be_read_before_the_error(drill: Drill) -> None:
    assert passes(drill(
        "+0 < P. 1:11(10) ack 1 win 32792\n+0 < R 11:11(0) win 0\n+0 read(4, ..., 100) = 10\n"
        "+0 read(4, ..., 100) = -1 ECONNRESET (Connection reset by peer)\n"
    ))  # fmt: skip


def test_shutdown_of_reading_ends_reads_only(drill: Drill) -> None:
    assert passes(drill(
        "+0 shutdown(4, SHUT_RD) = 0\n+0 read(4, ..., 10) = 0\n+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1\n"
    ))  # fmt: skip


def test_a_send_buffer_holds_writes_back(drill: Drill) -> None:
    assert passes(drill(
        "+0 setsockopt(4, SOL_SOCKET, SO_SNDBUF, [2000], 4) = 0\n"
        "+0 getsockopt(4, SOL_SOCKET, SO_SNDBUF, [4000], [4]) = 0\n"
        "+0...0.1 write(4, ..., 6000) = 6000\n+0 > . 1:4001(4000) ack 1\n"
        "+.1 < . 1:1(0) ack 4001 win 32792\n+0 > P. 4001:6001(2000) ack 1\n"
        "+0 fcntl(4, F_SETFL, O_NONBLOCK) = 0\n+0 write(4, ..., 6000) = 2000\n"
        "+0 write(4, ..., 10) = -1 EAGAIN (would block)\n"
        "+0 poll([{fd=4, events=POLLOUT, revents=0}], 1, 0) = 0\n"
    ))  # fmt: skip


def test_options_of_the_listener_are_the_connections(drill: Drill, listening: str) -> None:
    assert passes(drill(
        "+0 setsockopt(3, SOL_TCP, TCP_NODELAY, [1], 4) = 0\n"
        "+0 setsockopt(3, SOL_SOCKET, SO_RCVBUF, [5000], 4) = 0\n+0 listen(3, 1) = 0\n"
        "+0 < S 0:0(0) win 32792 <mss 1000>\n+0 > S. 0:0(0) ack 1 win 10000 <mss 1460>\n"
        "+0 < . 1:1(0) ack 1 win 32792\n+0 accept(3, ..., ...) = 4\n"
        "+0 getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0\n"
        "+0 getsockopt(4, SOL_TCP, TCP_CONGESTION, \"reno\", [16]) = 0\n"
        "+0 setsockopt(4, SOL_TCP, TCP_CONGESTION, \"nosuch\", 6) = -1 ENOENT (No such file or directory)\n",
        before=listening.replace("   +0 listen(3, 1) = 0\n", ""),
    ))  # fmt: skip


def test_type_of_service_and_time_to_live_are_those_of_the_packets(drill: Drill) -> None:
    assert passes(drill(
        "+0 setsockopt(4, SOL_IP, IP_TOS, [0x2b], 4) = 0\n+0 setsockopt(4, SOL_IP, IP_TTL, [9], 4) = 0\n"
        "+0 write(4, ..., 10) = 10\n+0 > [tos 0x28] P. 1:11(10) ack 1\n+.1 < . 1:1(0) ack 11 win 32792\n"
        "+0 write(4, ..., 10) = 10\n+0 > [ttl 9] P. 11:21(10) ack 1\n"
        "+0 setsockopt(4, SOL_IP, IP_TTL, [0], 4) = -1 EINVAL (Invalid argument)\n"
        "+0 setsockopt(4, SOL_IP, IP_TOS, [256], 4) = -1 EINVAL (Invalid argument)\n"
    ))  # fmt: skip


def test_tcp_info_counts_segments_and_tells_how_long_ago_they_were(drill: Drill) -> None:
    assert passes(drill(
        "+.5 %{ assert (tcpi_last_data_recv, tcpi_last_data_sent, tcpi_last_ack_recv) == (500, 500, 500) }%\n"
        "+0 %{ assert (tcpi_segs_in, tcpi_segs_out, tcpi_data_segs_in, tcpi_data_segs_out) == (2, 1, 0, 0) }%\n"
        "+0 < P. 1:11(10) ack 1 win 32792\n+.01 write(4, ..., 2500) = 2500\n+0 > P. 1:2501(2500) ack 11\n"
        "+.03 %{ assert (tcpi_last_data_recv, tcpi_last_data_sent, tcpi_last_ack_recv) == (40, 30, 40) }%\n"
        "+0 %{ assert (tcpi_segs_in, tcpi_segs_out, tcpi_data_segs_in, tcpi_data_segs_out) == (3, 4, 1, 3) }%\n"
        "+0 %{ assert tcpi_advmss == 1460 }%\n"
    ))  # fmt: skip


def test_tcp_info_tells_of_disorder_before_anything_counts_as_lost(drill: Drill) -> None:
    assert passes(drill(
        "+0 write(4, ..., 3000) = 3000\n+0 > P. 1:3001(3000) ack 1\n"
        "+0 %{ assert (tcpi_ca_state, tcpi_sacked) == (TCP_CA_Open, 0) }%\n"
        "+.1 < . 1:1(0) ack 1 win 32792\n"
        "+0 %{ assert (tcpi_ca_state, tcpi_sacked) == (TCP_CA_Disorder, 1) }%\n"
        "+.2 > . 1:1001(1000) ack 1\n"
        "+0 %{ assert (tcpi_ca_state, tcpi_retransmits) == (TCP_CA_Loss, 1) }%\n"
    ))  # fmt: skip


def test_a_poll_with_a_timeout_gives_up(drill: Drill) -> None:
    assert passes(drill("+0...0.25 poll([{fd=4, events=POLLIN, revents=0}], 1, 250) = 0\n+1 close(4) = 0\n"))


def test_a_connect_that_nobody_answers_times_out_after_three_minutes(drill: Drill) -> None:
    waits = "".join(f"+{wait} > S 0:0(0) <...>\n" for wait in (1, 2, 4, 8, 16, 32, 64))

    result = drill(
        "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"
        "+0...180 connect(3, ..., ...) = -1 ETIMEDOUT (Connection timed out)\n+0 > S 0:0(0) <...>\n" + waits,
        before="",
    )

    assert passes(result)
    assert result.real_ns < 2_000_000_000


@pytest.mark.parametrize("rmem", ["4096 540000 15728640", "4096 131072 60000"])
def test_sysctls_that_the_engine_understands(drill: Drill, listening: str, rmem: str) -> None:
    shift = {"4096 540000 15728640": 8, "4096 131072 60000": 0}[rmem]

    assert passes(drill(
        f"+0 < S 0:0(0) win 9 <mss 1000,nop,wscale 7>\n+0 > S. 0:0(0) ack 1 <mss 1460,nop,wscale {shift}>\n",
        before=f"`sysctl -q net.ipv4.tcp_rmem=\"{rmem}\"`\n" + listening,
    ))  # fmt: skip
