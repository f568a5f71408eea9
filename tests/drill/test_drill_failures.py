"""A drill that is not met fails, at its line, and says what was expected and what was seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpstack.drill.run import FAILED, PASSED, Result

Drill = Callable[..., Result]
LOOSE = (("tolerance_usecs", "4000"), ("tolerance_percent", "12.5"))
WRITE = "   +0 write(4, ..., 1000) = 1000\n"
MET = WRITE + "   +0 > P. 1:1001(1000) ack 1\n"


def test_a_script_that_is_met_passes(drill: Drill) -> None:
    result = drill(MET)

    assert result.verdict == PASSED
    assert result.message == ""
    assert result.script_ns == 100_000_000


def test_another_packet_than_expected_is_shown_beside_it_with_the_ladder(drill: Drill) -> None:
    result = drill(WRITE + "   +0 > . 1:1001(1000) ack 1 win 5 <mss 9,nop,eol,nop,eol>\n")

    assert result.verdict == FAILED
    lines = result.message.splitlines()
    assert lines[0].endswith("script.pkt:10: another packet than expected: flags, win, options")
    assert lines[1] == "    +0 > . 1:1001(1000) ack 1 win 5 <mss 9,nop,eol,nop,eol>"
    assert lines[3].split() == ["expected", "seen"]
    assert [line.split() for line in lines[4:10]] == [
        ["time", "0.100000", "0.100000"],
        ["flags", ".", "P.", "<-", "differs"],
        ["seq", "1:1001(1000)", "1:1001(1000)"],
        ["ack", "1", "1"],
        ["win", "5", "65535", "<-", "differs"],
        ["options", "<mss", "9,nop,eol,nop,eol>", "none", "<-", "differs"],
    ]
    assert lines[4].index("0.100000", 20) == lines[6].index("1:1001(1000)", 30)  # they stand in columns
    assert "── conversation 1" in lines[11]
    assert "PSH,ACK seq 1 ack 1 len 1000" in lines[-3]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ("> . 1:1001(1000) ack 1", "flags"),
        ("> P. 2:1002(1000) ack 1", "seq"),
        ("> P. 1:1001(1000) ack 2", "ack"),
        ("> P. 1:1001(1000) ack 1 win 1", "win"),
        ("> P. 1:1001(1000) ack 1 urg 3", "urg"),
        ("> P. 1:1001(1000) ack 1 <nop,nop,nop,nop>", "options"),
        ("> [ce] P. 1:1001(1000) ack 1", "tos"),
        ("> [ttl 3] P. 1:1001(1000) ack 1", "ttl"),
        ("> [ect01] P. 1:1001(1000) ack 1", "ecn"),
        ("> 8080>7 P. 1:1001(1000) ack 1", "ports"),
        ("> P. 1:1000(999) ack 1", "seq"),
        ("> P. 1:2001(2000) ack 1", "seq"),
    ],
)
def test_each_field_counts(drill: Drill, wrong: str, field: str) -> None:
    result = drill(WRITE + f"+0 {wrong}\n")

    assert result.verdict == FAILED
    assert f"another packet than expected: {field}\n" in result.message


def test_what_a_script_leaves_out_may_be_anything(drill: Drill) -> None:
    assert drill(WRITE + "* > P. 1:1001(1000) ack 1 <...>\n").verdict == PASSED
    assert drill(WRITE + "+0 > [noecn] P. 1:1001(1000) ack 1 win 65535\n").verdict == PASSED
    assert drill(WRITE + "+0 > [ttl 64] P. 1:1001(1000) ack 1\n").verdict == PASSED


def test_a_packet_that_is_late_or_early_fails(drill: Drill) -> None:
    late = drill(WRITE + "+0 > P. 1:1001(1000) ack 1\n +.2999 > . 1:1001(1000) ack 1\n")
    early = drill(WRITE + "+0 > P. 1:1001(1000) ack 1\n +.301 > P. 1:1001(1000) ack 1\n")

    assert "no packet: none was sent up to 0.399900 s" in late.message
    assert "the packet came at 0.400000 s (tolerance 0.000000 s)" in early.message
    assert "time     0.401000" in early.message


def test_tolerance_is_of_microseconds_or_of_a_share_whichever_is_more(drill: Drill) -> None:
    text = MET + " +.29 > P. 1:1001(1000) ack 1\n"

    assert drill(text).verdict == FAILED
    assert drill(text, options=(("tolerance_usecs", "10000"), ("tolerance_percent", "0"))).verdict == PASSED
    assert drill(text, options=(("tolerance_usecs", "0"), ("tolerance_percent", "4"))).verdict == PASSED
    assert drill(text, options=(("tolerance_usecs", "9000"), ("tolerance_percent", "3"))).verdict == FAILED


def test_ranges_of_time(drill: Drill) -> None:
    assert drill(MET + "+.2~+.3 > P. 1:1001(1000) ack 1\n").verdict == PASSED
    assert drill(MET + "0.1~0.45 > P. 1:1001(1000) ack 1\n").verdict == PASSED
    assert drill(MET + "+.1~+.2 > P. 1:1001(1000) ack 1\n").verdict == FAILED
    assert drill(MET + "+.31~+.4 > P. 1:1001(1000) ack 1\n").verdict == FAILED


def test_no_packet_at_all_fails(drill: Drill) -> None:
    result = drill("+0 > . 1:1(0) ack 1\n")

    assert "script.pkt:9: no packet: none was sent up to 0.100000 s" in result.message


def test_a_packet_that_nobody_expected_is_met_by_the_next_expectation(drill: Drill) -> None:
    result = drill(MET + 2 * WRITE + "+0 > P. 2001:3001(1000) ack 1\n")

    assert "another packet than expected: seq" in result.message
    assert "2001:3001(1000)  1001:2001(1000)  <- differs" in result.message


def test_several_segments_are_taken_for_one_large_packet_unless_strict(drill: Drill) -> None:
    text = "+0 write(4, ..., 3500) = 3500\n +0 > P. 1:3501(3500) ack 1\n"

    assert drill(text).verdict == PASSED
    strict = drill(text, options=(("strict_segments", ""),))
    assert "another packet than expected: flags, seq" in strict.message


def test_a_call_that_returns_something_else_fails(drill: Drill) -> None:
    unread = drill("+0 fcntl(4, F_SETFL, O_NONBLOCK) = 0\n+0 read(4, ..., 9) = 5\n")
    assert "read() returned -1 EAGAIN, not 5" in unread.message
    assert "close() returned -1 EBADF, not 0" in drill("+0 close(77) = 0\n").message
    assert "write() returned 10, not -1 EPIPE" in drill("+0 write(4, ..., 10) = -1 EPIPE (Broken pipe)\n").message
    assert "failed with EBADF, not EPIPE" in drill("+0 write(9, ..., 10) = -1 EPIPE (Broken pipe)\n").message
    assert "the option is 0, not 1" in drill("+0 getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0\n").message
    assert "it says 0, not 7" in drill("+0 ioctl(4, SIOCINQ, [7]) = 0\n").message
    assert "revents are (4,), not (0,)" in drill("+0 poll([{fd=4, events=POLLOUT}], 1, 0) = 1\n").message


def test_a_call_that_blocks_where_it_is_not_to(drill: Drill) -> None:
    result = drill("+0 read(4, ..., 10) = 10\n")

    assert "script.pkt:9: read() blocks; a call that is to block is written START...END read()" in result.message


def test_a_call_that_returns_too_early_or_never(drill: Drill) -> None:
    text = "< P. 1:11(10) ack 1 win 32792\n"

    early = drill(f"+0...0.2 read(4, ..., 10) = 10\n +.1 {text}")
    never = drill("+0...0.2 read(4, ..., 10) = 10\n")

    assert "read() returned at 0.200000 s, not at 0.300000 s" in early.message
    assert "read() still blocks at 0.300000 s" in never.message
    assert drill(f"+0...0.1 read(4, ..., 10) = 10\n +.1 {text}").verdict == PASSED


def test_one_call_blocks_at_a_time(drill: Drill) -> None:
    result = drill("+0...0.2 read(4, ..., 10) = 10\n+.1 close(4) = 0\n")

    assert "script.pkt:9: read() still blocks" in result.message


def test_an_assertion_that_does_not_hold_is_shown_with_its_values(drill: Drill) -> None:
    result = drill("+0 %{ assert tcpi_snd_cwnd == 11, tcpi_snd_cwnd }%\n")

    assert result.verdict == FAILED
    assert "script.pkt:9: tcpi_snd_cwnd == 11 does not hold: tcpi_snd_cwnd is 10" in result.message


def test_what_snippets_print_is_kept(drill: Drill) -> None:
    assert drill("+0 %{ print('cwnd', tcpi_snd_cwnd) }%\n").printed == ("cwnd 10",)


def test_a_connection_opened_without_ports_is_found_by_them_too(drill: Drill) -> None:
    """40001 -> 8080, as the ladder shows it."""
    text = "+0 < 40001>8080 P. 1:4(3) ack 1 win 1000\n+.04 > . 1:1(0) ack 4\n"

    assert drill(text).verdict == PASSED


def test_a_port_that_the_script_has_named_is_not_given_away(drill: Drill, listening: str) -> None:
    opening = "+0 < {}S 0:0(0) win 1000 <mss 1000>\n+0 > S. 0:0(0) ack 1 <...>\n"
    second = opening.format("40001>8080 ") + "+.1 < 40001>8080 . 1:1(0) ack 1 win 9\n+0 accept(3, ..., ...) = 4\n"
    result = drill("+0 listen(3, 5) = 0\n" + second + "+0 listen(3, 5) = 0\n" + opening.format(""), before=listening)

    assert result.verdict == PASSED, result.message


def test_an_icmp_error_is_about_a_connection(drill: Drill, listening: str) -> None:
    result = drill("+0 < icmp unreachable host_unreachable [1:1(0)]\n", before=listening)

    assert result.verdict == FAILED
    assert "script.pkt:5: an ICMP error is about a connection, and there is none yet" in result.message


def test_text_that_is_not_what_was_written_or_sent_fails(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    from tcpstack.core.send.buffer import SendBuffer

    read = drill("+0 < P. 1:11(10) ack 1 win 32792\n +0 read(4, ..., 10) = 10\n")
    assert read.verdict == PASSED
    monkeypatch.setattr(SendBuffer, "view", lambda self, seq, size: (bytes(size),))
    result = drill(MET)

    assert "the text of the packet is not what was written" in result.message
