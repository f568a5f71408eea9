"""The language: what is understood, and for what is not, the place and what would be allowed there."""

from __future__ import annotations

import errno
import time

import pytest

from tcpstack.core.segment import ACK, CWR, ECE, FIN, PSH, SYN, URG
from tcpstack.drill.grammar import parse
from tcpstack.drill.script import (
    ANYTHING,
    ENGINE,
    KERNEL,
    Call,
    Command,
    Event,
    Icmp,
    Option,
    Packet,
    Script,
    ScriptError,
    Snippet,
    When,
)

SECOND = 1_000_000_000


def script_of(text: str, side: str = ENGINE, **options: object) -> Script:
    return parse(text, "x.pkt", side, **options)  # type: ignore[arg-type]


def event_of(text: str) -> Event:
    (event,) = script_of(text).events
    return event


def packet_of(text: str) -> Packet:
    action = event_of("+0 " + text).action
    assert isinstance(action, Packet)
    return action


def call_of(text: str) -> Call:
    action = event_of("+0 " + text).action
    assert isinstance(action, Call)
    return action


def error_of(text: str, side: str = ENGINE) -> str:
    with pytest.raises(ScriptError) as caught:
        script_of(text, side)
    return str(caught.value)


# -- times


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("0", When(0)),
        ("1.5", When(3 * SECOND // 2)),
        ("+0", When(0, relative=True)),
        ("+.001", When(SECOND // 1000, relative=True)),
        ("*", When(any=True, relative=True)),
        ("1.0~1.5", When(SECOND, until_ns=3 * SECOND // 2)),
        ("+.1~+.2", When(SECOND // 10, relative=True, until_ns=SECOND // 5)),
        ("0.123456789", When(123_456_789)),
    ],
)
def test_times_of_packets_that_are_expected(text: str, when: When) -> None:
    assert event_of(f"{text} > . 1:1(0) ack 1").when == when


@pytest.mark.parametrize("spaces", ["", " "])
def test_a_call_that_blocks_has_two_times(spaces: str) -> None:
    event = event_of(f"+.1{spaces}...{spaces}0.25 read(4, ..., 10) = 10")

    assert event.when == When(SECOND // 10, relative=True)
    assert isinstance(event.action, Call)
    assert event.action.until_ns == SECOND // 4


def test_commands_before_and_between_events() -> None:
    script = script_of("`sysctl -q a=1\n b`\n0 `ls`\n")

    assert [event.action for event in script.events] == [Command("sysctl -q a=1\n b"), Command("ls")]
    assert [event.when.untimed for event in script.events] == [True, False]


# -- packets


def test_a_syn_with_options_in_the_order_written() -> None:
    packet = packet_of("< S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>")

    assert packet.inbound
    assert (packet.flags, packet.seq, packet.size, packet.ack, packet.win) == (SYN, 0, 0, None, 32792)
    assert packet.options == (
        Option("mss", (1000,)), Option("sackOK"), Option("nop"), Option("nop"), Option("nop"), Option("wscale", (7,)),
    )  # fmt: skip


def test_all_options() -> None:
    packet = packet_of("< . 1:1(0) ack 1 win 5 <TS val 100 ecr 200,nop,nop>")
    assert packet.options is not None
    assert packet.options[0] == Option("TS", (100, 200))
    packet = packet_of("< . 1:1(0) ack 1 win 5 <sack 1001:2001 3001:4001,nop,eol>")
    assert packet.options is not None
    assert packet.options[0] == Option("sack", (1001, 2001, 3001, 4001))
    packet = packet_of("< S 0:0(0) win 5 <FO abcd1234,nop,nop>")
    assert packet.options is not None
    assert packet.options[0] == Option("FO", blob=bytes.fromhex("abcd1234"))


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (".", ACK), ("S", SYN), ("S.", SYN | ACK), ("P.", PSH | ACK), ("FP.", FIN | PSH | ACK),
        ("PU.", PSH | URG | ACK), ("SEW", SYN | ECE | CWR), ("SE.", SYN | ECE | ACK), ("-", 0), ("F", FIN),
    ],
)  # fmt: skip
def test_flags(text: str, flags: int) -> None:
    assert packet_of(f"> {text} 1:1(0)").flags == flags


def test_what_a_packet_leaves_out() -> None:
    packet = packet_of("> P. 1:1001(1000) ack 1")

    assert (packet.win, packet.urg, packet.options, packet.ports) == (None, 0, (), None)
    assert packet_of("> S 0:0(0) <...>").options is None


def test_ports_urgent_pointer_and_the_ip_header() -> None:
    assert packet_of("< 1234>80 . 1:1(0) ack 1 win 5").ports == (1234, 80)
    assert packet_of("< PU. 1:11(10) ack 1 win 5 urg 10").urg == 10
    assert packet_of("> [ect0] P. 1:11(10) ack 1").ip.tos == 2
    assert packet_of("> (ttl 64) P. 1:11(10) ack 1").ip.ttl == 64
    assert packet_of("> [tos 0x10] P. 1:11(10) ack 1").ip.tos == 0x10


def test_sequence_numbers_wrap() -> None:
    assert packet_of("> . 4294967290:4(10) ack 1").seq == 4294967290


def test_icmp_errors_of_both_versions() -> None:
    assert event_of("+0 < icmp unreachable host_unreachable [1:1001(1000)]").action == Icmp(3, 1, 0, 1, 1000)
    assert event_of("+0 < icmp unreachable frag_needed mtu 1200 [1:1461(1460)]").action == Icmp(3, 4, 1200, 1, 1460)
    assert event_of("+0 < icmp time_exceeded ttl_exceeded").action == Icmp(11, 0, 0, 0, 0)
    (event,) = script_of("--ip_version=ipv6\n+0 < icmp packet_too_big mtu 1280 [1:1001(1000)]").events
    assert event.action == Icmp(2, 0, 1280, 1, 1000)


# -- calls


def test_a_call_with_its_errno_and_a_note() -> None:
    call = call_of("connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)")

    assert call == Call("connect", (3, ANYTHING, ANYTHING), -1, errno.EINPROGRESS)


def test_symbols_are_numbers_and_can_be_joined() -> None:
    assert call_of("fcntl(3, F_SETFL, O_RDWR | O_NONBLOCK) = 0").arguments == (3, 4, 0o4002)
    assert call_of("fcntl(3, F_GETFL) = 0x2 (flags O_RDWR)").result == 2


def test_structures_lists_and_strings() -> None:
    call = call_of("setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0")
    assert call.arguments[3] == {"onoff": 1, "linger": 0}
    call = call_of("poll([{fd=4, events=POLLIN|POLLOUT, revents=POLLOUT}], 1, 0) = 1")
    assert call.arguments[0] == ({"fd": 4, "events": 5, "revents": 4},)
    call = call_of('bind(3, {sa_family = AF_INET, sin_port = htons(80), sin_addr = inet_addr("1.2.3.4")}, ...) = 0')
    assert call.arguments[1] == {"sa_family": 2, "sin_port": 80, "sin_addr": "1.2.3.4"}
    call = call_of('setsockopt(3, SOL_TCP, TCP_CONGESTION, "re" "no", 4) = 0')
    assert call.arguments[3] == b"reno"


def test_words_can_be_defined() -> None:
    script = script_of("+0 < icmp unreachable CODE", defines={"CODE": "host_unreachable"})

    assert script.events[0].action == Icmp(3, 1, 0, 0, 0)


# -- the rest


def test_options_comments_and_snippets() -> None:
    script = script_of(
        "--tolerance_usecs=10000\n--ip_version=ipv4 // a comment\n/* another,\n of two lines */\n"
        "0 %{ assert tcpi_snd_cwnd == 10 }%\n"
    )

    assert script.options == (("tolerance_usecs", "10000", 1), ("ip_version", "ipv4", 2))
    assert script.events[0].action == Snippet(" assert tcpi_snd_cwnd == 10 ")
    assert script.events[0].line == 5


def test_an_event_keeps_its_line_and_its_text() -> None:
    event = script_of("\n\n  +.1  <  .  1:1(0)\n      ack 1   win 5\n").events[0]

    assert event.line == 3
    assert event.source == "+.1 < . 1:1(0) ack 1 win 5"


def test_lines_of_one_side_and_the_reason() -> None:
    text = "//differs: because\n//engine: +1 > . 1:1(0) ack 1\n//kernel: +2 > . 1:1(0) ack 1\n0 > . 2:2(0) ack 1\n"

    engine, kernel = script_of(text, ENGINE), script_of(text, KERNEL)

    assert [event.source for event in engine.events] == ["+1 > . 1:1(0) ack 1", "0 > . 2:2(0) ack 1"]
    assert [event.source for event in kernel.events] == ["+2 > . 1:1(0) ack 1", "0 > . 2:2(0) ack 1"]
    assert [event.line for event in kernel.events] == [3, 4]
    assert [(each.line, each.reason) for each in engine.differences] == [(1, "because")]


# -- errors


def test_an_error_points_at_the_column_and_lists_what_is_allowed() -> None:
    assert error_of("0 socket(...) = 3\n  +0 > P. 1:1001(1000) ackk 1\n") == (
        "x.pkt:2:24: 'ackk' cannot stand here\n"
        "      +0 > P. 1:1001(1000) ackk 1\n"
        "                           ^\n"
        "    allowed here: ack, win, urg, <options>, a `command`, *, + or a time in seconds"
    )


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("0 > X. 1:1(0)", "x.pkt:1:5", "'X' is no flag"),
        ("0 > SXF 1:1(0)", "x.pkt:1:6", "'X' is no flag"),
        ("0 > . 1:1001(999) ack 1", "x.pkt:1:7", "1 + 999 is not 1001"),
        ("0 > . 1:1(0) ack win 5", "x.pkt:1:18", "allowed here: a number (ack)"),
        ("0 > . 1:1(0) ack 4294967296", "x.pkt:1:18", "ack must be 0 to 4294967295"),
        ("0 < . 1:1(0) ack 1 win 70000", "x.pkt:1:24", "win must be 0 to 65535"),
        ("0 < S 0:0(0) win 1 <...>", "x.pkt:1:20", "<...> can be expected, not injected"),
        ("0 < S 0:0(0) win 1 <mss 1000,nop>", "x.pkt:1:20", "take 5 octets: add nop or eol"),
        ("0 < S 0:0(0) win 1 <mss>", "x.pkt:1:24", "allowed here: a number (mss)"),
        ("0 < S 0:0(0) win 1 <MSS 1000>", "x.pkt:1:21", "allowed here: mss, nop, eol"),
        ("0 > icmp unreachable", "x.pkt:1:3", "ICMP can be injected"),
        ("0 < icmp unreachable somewhere", "x.pkt:1:22", "net_unreachable, host_unreachable"),
        ("0 > udp (100)", "x.pkt:1:5", "udp packets are not supported"),
        ("0 read(4, ..., 10 = 3", "x.pkt:1:19", "allowed here: |, , or )"),
        ("0 read(4, ..., BIG) = 3", "x.pkt:1:16", "'BIG' stands for nothing here"),
        ("0 fcntl(3, F_SETFL, O_NONBLOK) = 0", "x.pkt:1:21", "do you mean O_NONBLOCK?"),
        ("0 read(4, ..., 10) = -1 EAGAINN", "x.pkt:1:25", "do you mean EAGAIN?"),
        ("0 read(4, ..., 10)", "x.pkt:1:19", "allowed here: ="),
        ("* read(4, ..., 10) = 3", "x.pkt:1:1", "'*' is for packets that are expected"),
        ("1~2 < . 1:1(0) win 1", "x.pkt:1:1", "'START~END' is for packets that are expected"),
        ("2~1 > . 1:1(0)", "x.pkt:1:1", "this range of time is backwards"),
        ("+1~2 > . 1:1(0)", "x.pkt:1:4", "allowed here: +"),
        ("2...1 read(4, ..., 1) = 1", "x.pkt:1:1", "to return before it starts"),
        ("0...1 > . 1:1(0)", "x.pkt:1:1", "socket calls that block"),
        ("1 > . 1:1(0)\n0 > . 1:1(0)", "x.pkt:2:1", "time goes backwards, from 1 s to 0 s"),
        ("-1 > . 1:1(0)", "x.pkt:1:1", "a time cannot be negative"),
        ("0 `never closed", "x.pkt:1:3", "a command that is not closed"),
        ("0 %{ assert 1 ", "x.pkt:1:3", "a snippet that is not closed"),
        ('0 socket("abc', "x.pkt:1:10", "a string that is not closed"),
        ("0 > . 1:1(0) ack 1 ; 5", "x.pkt:1:20", "';' cannot stand here"),
        ("0 ^ 1", "x.pkt:1:3", "'^' means nothing"),
        ("0", "x.pkt:1:2", "the script ends here"),
        ("//engine: 0 > . 1:1(0)", "x.pkt:1:3", "needs a line //differs: REASON above it"),
        ("+" + 400 * "9" + " > . 1:1(0)", "x.pkt:1:2", "a time is at most 1,000,000,000 s"),
        ("0 > . 1:1(0) ack " + 5000 * "9", "x.pkt:1:18", "a number of 5000 digits"),
        ("0 listen(3, " + 5000 * "9" + ") = 0", "x.pkt:1:13", "a number of 5000 digits"),
        ("0 listen(3, 4294967296) = 0", "x.pkt:1:13", "a number in a call is of 32 bits"),
        ('0 write(4, "\\xzz", 4) = 4', "x.pkt:1:12", "truncated \\xXX escape"),
        ("0 < P. 1:65501(65500) ack 1 win 1", "x.pkt:1:8", "one packet has room for 65495"),
        ("0 < . 1:65494(65493) win 1 <nop,nop,nop,nop>", "x.pkt:1:7", "one packet has room for 65491"),
        ("0 < icmp unreachable host_unreachable [1:65501(65500)]", "x.pkt:1:40", "has room for 65495"),
        ("", "x.pkt:1:1", "there is no event in this script"),
        ("// nothing\n--mtu=1500\n/* at all */\n", "x.pkt:3:13", "there is no event in this script"),
        ("//differs: x\n//engine: 0 close(3)\n0 close(3) = 0", "x.pkt:2:21", "this line lacks something at its end"),
        ("\0\x1b[0m", "x.pkt:1:1", "    \\x00\\x1b[0m\n"),
        ("//differs:\n//engine: 0 > . 1:1(0)", "x.pkt:1:1", "say why the sides differ"),
    ],
)
def test_errors(text: str, where: str, words: str) -> None:
    message = error_of(text)

    assert message.startswith(f"{where}: "), message
    assert words in message


def test_reading_a_long_script_takes_no_longer_for_each_line() -> None:
    lines = 20_000
    began = time.process_time()

    script = script_of("+0 close(3) = 0\n" * lines)

    assert script.events[-1].line == lines
    assert time.process_time() - began < 10  # it was 40 s


def test_the_caret_stands_under_the_column() -> None:
    for line in error_of("   +0\t> SX 1:1(0)").splitlines():
        if line.strip() == "^":
            assert line.index("^") == 4 + 9
            break
    else:
        pytest.fail("no caret")


def test_a_reason_reaches_no_further_than_the_lines_below_it() -> None:
    assert "needs a line //differs" in error_of("//differs: x\n//engine: 0 > . 1:1(0)\n\n//engine: 0 > . 1:1(0)\n")


def test_deep_nesting_is_refused_and_no_text_raises_anything_else() -> None:
    assert "nested too deeply" in error_of("0 socket(" + "[" * 500 + "]" * 500 + ") = 3")
