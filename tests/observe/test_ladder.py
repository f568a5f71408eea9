"""The ladder, fed with events made by hand: what stands where, and what it says."""

from __future__ import annotations

import errno
import re

import pytest

from tcpstack.core.events import (
    CongestionChange,
    ExcessiveRetransmission,
    LossDetected,
    RetransmissionTimeout,
    SegmentIn,
    SegmentOut,
    SoftError,
    StateChange,
)
from tcpstack.core.segment import Options
from tcpstack.core.state import (
    ABORT,
    ACTIVE_OPEN,
    CLOSE,
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LISTEN,
    RCV_NEWER_SYN,
    RCV_UNREACHABLE,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    TIME_WAIT_TIMEOUT,
)
from tcpstack.observe import KnownPeers, Ladder

REQUEST = b"GET / HTTP/1.1\r\nHost: 10.9.0.2\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000

CURL = """\
── conversation 1 ──────────────────────────────────────────────────────────────────────────────────────────────────
ms              since the conversation began, by the clock of tcpstack; time runs downward
state → state   before and after the segment, of tcpstack and of kernel; ~ inferred from the segments seen, by RFC
                9293's state diagram; ? not known yet
seq, ack        count from each end's initial sequence number (ISN): SYN is 0, the first octet 1
len, win        octets of data in the segment; octets that its sender has room for
      ms  tcpstack 10.9.0.2:80                                                           kernel 10.9.0.1:41234
   0.000  LISTEN → SYN-RECEIVED      <── SYN seq 0 win 64240 ─────────────────────────── ~CLOSED → SYN-SENT
                                         ISN 2817361921; offers mss 1460, window scale 7, SACK, timestamps
                                         asks to open a connection
   0.100  SYN-RECEIVED               ─── SYN,ACK seq 0 ack 1 win 65535 ────────────────> ~SYN-SENT → ESTABLISHED
                                         ISN 991823411; offers mss 1460, window scale 4
                                         why: answers the SYN
   0.100  — in force: window scale (×16 for windows of tcpstack, ×128 for those of kernel); segments of at most
            1460 octets to tcpstack, 1460 to kernel; not in force: SACK and timestamps (offered by kernel alone) —
   0.200  SYN-RECEIVED → ESTABLISHED <── ACK seq 1 ack 1 win 64256 ───────────────────── ~ESTABLISHED
                                         acknowledges our SYN
   0.300  ESTABLISHED                <── PSH,ACK seq 1 ack 1 len 72 win 64256 ────────── ~ESTABLISHED
                                         "GET / HTTP/1.1" …
   0.400  ESTABLISHED                ─── PSH,ACK seq 1 ack 73 len 1041 win 65456 ──────> ~ESTABLISHED
                                         "HTTP/1.1 200 OK" …
                                         why: data, all that was queued
   0.400  — our application closes: ESTABLISHED → FIN-WAIT-1 —
   0.500  FIN-WAIT-1                 ─── FIN,ACK seq 1042 ack 73 win 65456 ────────────> ~ESTABLISHED → CLOSE-WAIT
                                         why: FIN: we have no more to send
   0.600  FIN-WAIT-1 → FIN-WAIT-2    <── ACK seq 73 ack 1043 win 64256 ───────────────── ~CLOSE-WAIT
                                         acknowledges our 1041 octets and FIN
   0.700  FIN-WAIT-2 → TIME-WAIT     <── FIN,ACK seq 73 ack 1043 win 64256 ───────────── ~CLOSE-WAIT → LAST-ACK
                                         has nothing more to send (FIN)
   0.700  — these addresses and ports stay taken for 2 MSL, so that no late segment gets into a new connection —
   0.800  TIME-WAIT (2 MSL)          ─── ACK seq 1043 ack 74 win 65456 ────────────────> ~LAST-ACK → CLOSED
                                         why: ACK of the peer's FIN
   0.800  — the connection is over: in 72 B  out 1.0 kB  0.8 ms  closed —
"""

CURL_AT_80 = """\
   0.000  LISTEN         <── SYN seq 0 win 64240 ─────────────── ~CLOSED
          → SYN-RECEIVED     ISN 2817361921; offers mss 1460,    → SYN-SENT
                             window scale 7, SACK, timestamps
                             asks to open a connection
"""


def play_curl(conversation) -> None:
    conversation.passive_handshake(Options(1460, 7, True, (1, 0)), Options(1460, 4))
    conversation.peer("PSH,ACK", REQUEST)
    conversation.we("PSH,ACK", RESPONSE, wnd=4091, why="data, all that was queued")
    conversation.user(CLOSE)
    conversation.we("FIN,ACK", wnd=4091, why="FIN: we have no more to send")
    conversation.peer("ACK", after=FIN_WAIT_2)
    conversation.peer("FIN,ACK", after=TIME_WAIT)
    conversation.we("ACK", wnd=4091, why="ACK of the peer's FIN")
    conversation.closed(received=len(REQUEST), sent=len(RESPONSE))


@pytest.fixture
def ladder() -> Ladder:
    return Ladder(peer="kernel")


def rows(text: str) -> list[str]:
    """The arrows and notes, without what stands beneath them."""
    return [line for line in text.splitlines() if re.match(r" *\d+\.\d+ ", line)]


def last_row(ladder: Ladder) -> str:
    return rows(ladder.render())[-1]


def flat(text: str) -> str:
    return " ".join(text.split())


class TestOneConversation:
    def test_curl_exchange_reads_as_a_whole(self, script, ladder):
        # The first time is that of the first event, so the script starts where its first step ends.
        conversation = script(ladder)
        conversation.at = -0.1
        play_curl(conversation)
        assert ladder.render() == CURL

    def test_narrow_ladder_puts_state_after_beneath_state_before(self, script):
        ladder = Ladder(peer="kernel", width=80)
        play_curl(script(ladder))
        assert CURL_AT_80 in ladder.render()

    @pytest.mark.parametrize("width", [10, 72, 80, 100, 107, 108, 116, 140])
    @pytest.mark.parametrize("live", [False, True])
    def test_any_width_no_line_is_longer(self, script, width, live):
        written: list[str] = []
        ladder = Ladder(written.append if live else None, peer="kernel", width=width)
        play_curl(script(ladder))
        ladder.flush()
        text = "".join(written) if live else ladder.render()
        assert max(map(len, text.splitlines())) <= max(width, 72)
        assert len(re.findall(r"^(?:  1 )? *\d+\.\d{3}  ", text, re.MULTILINE)) == 13

    def test_each_isn_is_shown_once(self, script, ladder):
        conversation = script(ladder)
        play_curl(conversation)
        text = ladder.render()
        assert text.count("2817361921") == 1
        assert text.count("991823411") == 1

    def test_active_open_peer_is_unknown_until_it_answers(self, script, ladder):
        script(ladder).active_handshake()
        opened, syn, answer, _, ack = rows(ladder.render())
        assert opened.endswith("— our application opens a connection: CLOSED → SYN-SENT —")
        assert "SYN-SENT" in syn
        assert syn.endswith("> ~?")
        assert "SYN-SENT → ESTABLISHED" in answer
        assert answer.endswith("~LISTEN → SYN-RECEIVED")
        assert ack.endswith("~SYN-RECEIVED → ESTABLISHED")

    def test_active_open_refused_shows_closed_peer(self, script, ladder):
        conversation = script(ladder)
        conversation.state = CLOSED
        conversation.user(ACTIVE_OPEN)
        conversation.we("SYN")
        conversation.peer("RST,ACK", seq=0, after=CLOSED)
        assert re.search(r"SYN-SENT → CLOSED +<── RST,ACK seq 0 ack 1 win \d+ ─+ ~CLOSED$", last_row(ladder))
        assert "refuses: nobody listens on that port" in ladder.render()

    def test_active_open_icmp_unreachable_is_a_note(self, script, ladder):
        conversation = script(ladder)
        conversation.state = CLOSED
        conversation.user(ACTIVE_OPEN)
        conversation.we("SYN")
        conversation.user(RCV_UNREACHABLE)
        assert last_row(ladder).endswith("— ICMP: unreachable: SYN-SENT → CLOSED —")

    def test_closed_port_shows_rst_with_numbers(self, script, ladder):
        conversation = script(ladder)
        conversation.peer("SYN", before=CLOSED)
        conversation.we("RST,ACK", seq=0, why="RST: nobody listens on this port")
        assert re.search(r"CLOSED +─── RST,ACK seq 0 ack 1 win 502 ─+> ~SYN-SENT → CLOSED$", last_row(ladder))

    def test_simultaneous_open_syns_crossed_is_told(self, script, ladder):
        conversation = script(ladder)
        conversation.state = CLOSED
        conversation.user(ACTIVE_OPEN)
        conversation.we("SYN")
        conversation.peer("SYN", after=SYN_RECEIVED)
        assert rows(ladder.render())[-2].endswith("~CLOSED → SYN-SENT")
        assert "ours then takes it SYN-SENT → SYN-RECEIVED" in flat(ladder.render())
        conversation.we("SYN,ACK", seq=991_823_411)
        assert last_row(ladder).endswith("~SYN-RECEIVED → ESTABLISHED")

    def test_simultaneous_close_fins_crossed_peer_goes_to_closing(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.user(CLOSE)
        fin = conversation.we("FIN,ACK")
        conversation.peer("FIN,ACK", ack=fin.seq, after=CLOSING)
        assert last_row(ladder).endswith("~ESTABLISHED → FIN-WAIT-1")
        assert "ours then takes it FIN-WAIT-1 → CLOSING" in flat(ladder.render())
        conversation.we("ACK")
        assert last_row(ladder).endswith("~CLOSING → TIME-WAIT")
        conversation.peer("ACK", after=TIME_WAIT)
        shown = rows(ladder.render())
        assert re.search(r"CLOSING → TIME-WAIT .* ~TIME-WAIT \(2 MSL\)$", shown[-2])
        assert shown[-1].endswith("so that no late segment gets into a new connection —")

    def test_peer_closes_first_states_of_both_ends(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.peer("FIN,ACK", after=CLOSE_WAIT)
        assert re.search(r"ESTABLISHED → CLOSE-WAIT .* ~ESTABLISHED → FIN-WAIT-1$", last_row(ladder))
        conversation.we("ACK")
        assert last_row(ladder).endswith("~FIN-WAIT-1 → FIN-WAIT-2")
        conversation.user(CLOSE)
        conversation.we("FIN,ACK")
        assert last_row(ladder).endswith("~FIN-WAIT-2 → TIME-WAIT")
        conversation.peer("ACK", after=CLOSED)
        assert re.search(r"LAST-ACK → CLOSED .* ~TIME-WAIT \(2 MSL\)$", last_row(ladder))

    def test_established_rst_arrives_both_ends_closed(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.peer("RST", after=CLOSED)
        conversation.closed(error=ConnectionResetError(errno.ECONNRESET, "reset"))
        reset, over = rows(ladder.render())[-2:]
        assert re.search(r"ESTABLISHED → CLOSED +<── RST seq 1 win 502 ─+ ~ESTABLISHED → CLOSED$", reset)
        assert over.endswith("reset by peer —")

    def test_our_abort_peer_closes(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.user(ABORT)
        conversation.we("RST", why="RST: aborted by the application")
        note, reset = rows(ladder.render())[-2:]
        assert note.endswith("— our application aborts: ESTABLISHED → CLOSED —")
        assert reset.endswith("~ESTABLISHED → CLOSED")

    def test_time_wait_timeout_is_a_note(self, script, ladder):
        conversation = script(ladder)
        play_curl(conversation)
        conversation.at = 60_000
        conversation.user(TIME_WAIT_TIMEOUT)
        assert last_row(ladder) == "59999.900 — 2 MSL have passed: TIME-WAIT → CLOSED —"

    def test_sequence_numbers_wrap_relative_ones_do_not(self, script, ladder):
        conversation = script(ladder, our_isn=2**32 - 2, peer_isn=2**32 - 1)
        conversation.passive_handshake()
        conversation.peer("PSH,ACK", b"a" * 10)
        conversation.we("PSH,ACK", b"b" * 20)
        conversation.peer("ACK")
        data, answer, ack = rows(ladder.render())[-3:]
        assert "seq 1 ack 1 len 10" in data
        assert "seq 1 ack 11 len 20" in answer
        assert "seq 11 ack 21" in ack

    @pytest.mark.parametrize("who", ["peer", "we"])
    def test_urgent_text_is_told_with_its_end(self, script, ladder, who):
        conversation = script(ladder, our_isn=2**32 - 3, peer_isn=2**32 - 3)
        conversation.passive_handshake()
        getattr(conversation, who)("PSH,ACK,URG", b"stop!", up=5)
        arrow, below = ladder.render().splitlines()[-3:-1]
        assert "PSH,ACK,URG seq 1 ack 1 len 5" in arrow
        assert below.strip() == "urgent text ends before seq 6"
        getattr(conversation, who)("PSH,ACK", b"plain", up=5)
        assert "urgent" not in "".join(ladder.render().splitlines()[-2:])

    def test_windows_are_scaled_where_both_offered_it(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake(Options(wscale=2), Options(wscale=0))
        conversation.peer("ACK", wnd=100)
        conversation.we("ACK", wnd=100)
        assert [re.search(r"win (\d+)", row)[1] for row in rows(ladder.render())[-2:]] == ["400", "100"]

    def test_windows_are_not_scaled_where_one_did_not_offer_it(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake(Options(wscale=2), Options(mss=1460))
        conversation.peer("ACK", wnd=100)
        assert "win 100 " in last_row(ladder)
        assert "not in force: window scale (offered by kernel alone)" in flat(ladder.render())

    def test_no_options_defaults_are_in_force(self, script, ladder):
        script(ladder).passive_handshake()
        text = flat(ladder.render())
        assert "ISN 2817361921; offers no options" in text
        assert "— in force: segments of at most 536 octets to tcpstack, 536 to kernel —" in text

    def test_unknown_and_malformed_options_are_named(self, script, ladder):
        script(ladder).peer("SYN", before=LISTEN, after=SYN_RECEIVED, options=Options(unknown=(34,), malformed=True))
        assert "offers option kind 34, a malformed option" in ladder.render()

    def test_ipv6_ends_are_in_brackets(self, script, ladder):
        ours, peers = (bytes.fromhex("fd09" + "0" * 27 + "2"), 80), (bytes.fromhex("fd09" + "0" * 27 + "1"), 5000)
        script(ladder, ours=ours, peers=peers).passive_handshake()
        text = ladder.render()
        assert "tcpstack [fd09::2]:80" in text
        assert "kernel [fd09::1]:5000" in text
        assert "1220 to kernel" in flat(text)


class TestLoss:
    def test_syn_killed_before_it_arrives_peer_sent_it_all_the_same(self, script, ladder):
        conversation = script(ladder)
        conversation.lose_from_peer("SYN", rule="drop syn nth=1")
        conversation.at += 1000
        conversation.peer("SYN", seq=2_817_361_921, before=LISTEN, after=SYN_RECEIVED)
        killed, again = rows(ladder.render())
        assert re.fullmatch(r" +0\.000 +X── SYN seq 0 win 502 ─+ ~CLOSED → SYN-SENT", killed)
        assert re.search(r"LISTEN → SYN-RECEIVED .* ~SYN-SENT$", again)
        text = flat(ladder.render())
        assert "killed by the fault rule “drop syn nth=1”: it never arrives" in text
        assert "asks again" in text

    def test_syn_ack_killed_on_its_way_out_peer_stays(self, script, ladder):
        conversation = script(ladder)
        conversation.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        killed = conversation.we("SYN,ACK")
        conversation.hit(killed, "out", "drop synack nth=1")
        conversation.at += 1000
        conversation.we("SYN,ACK", seq=killed.seq, why="SYN,ACK again: no ACK came")
        dead, alive = [row for row in rows(ladder.render()) if "─── SYN,ACK" in row]
        assert re.search(r"─── SYN,ACK seq 0 ack 1 win 502 ─+X +~SYN-SENT$", dead)
        assert re.search(r"─── SYN,ACK seq 0 ack 1 win 502 ─+> ~SYN-SENT → ESTABLISHED$", alive)

    def test_corrupted_on_its_way_out_counts_as_lost(self, script, ladder):
        conversation = script(ladder)
        conversation.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        conversation.hit(conversation.we("SYN,ACK"), "out", "corrupt 1%", "corrupted")
        assert re.search(r"─+X +~SYN-SENT$", rows(ladder.render())[1])
        assert "its checksum is wrong now" in ladder.render()

    def test_duplicate_of_which_one_copy_dies_arrives(self, script, ladder):
        conversation = script(ladder)
        conversation.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        answer = conversation.we("SYN,ACK")
        conversation.hit(answer, "out", "duplicate 5%", "duplicated")
        conversation.hit(answer, "out", "loss 5%")
        assert rows(ladder.render())[1].endswith("> ~SYN-SENT → ESTABLISHED")

    def test_duplicate_of_which_both_copies_die_does_not_arrive(self, script, ladder):
        conversation = script(ladder)
        conversation.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        answer = conversation.we("SYN,ACK")
        conversation.hit(answer, "out", "duplicate 5%", "duplicated")
        conversation.hit(answer, "out", "loss 5%")
        conversation.hit(answer, "out", "loss 5%")
        assert re.search(r"X +~SYN-SENT$", rows(ladder.render())[1])

    def test_fin_reaches_peer_only_after_the_text_before_it(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        lost = conversation.we("PSH,ACK", b"x" * 100)
        conversation.hit(lost, "out", "drop data nth=1")
        conversation.user(CLOSE)
        conversation.we("FIN,ACK")
        assert last_row(ladder).endswith("> ~ESTABLISHED")
        conversation.we("PSH,ACK", b"x" * 100, seq=lost.seq, why="retransmission: timeout")
        assert last_row(ladder).endswith("> ~ESTABLISHED → CLOSE-WAIT")

    def test_retransmission_timeout_is_a_note_before_the_retransmission(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        data = conversation.we("PSH,ACK", b"hello")
        conversation.at += 200
        conversation.tracer(RetransmissionTimeout(conversation.now_ns, conversation.flow, 1, 200_000_000, 1))
        conversation.we("PSH,ACK", b"hello", seq=data.seq, why="retransmission: timeout")
        _, note, again = rows(ladder.render())[-3:]
        assert note.endswith("— retransmission timeout: 200 ms without an acknowledgement of seq 1 —")
        assert "seq 1 ack 1 len 5" in again
        assert "why: retransmission: timeout" in ladder.render()

    def test_excessive_retransmission_is_a_note(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.we("PSH,ACK", b"hello")
        conversation.tracer(ExcessiveRetransmission(conversation.now_ns, conversation.flow, 1, 3))
        note = rows(ladder.render())[-1]
        words = "excessive retransmission (R1): 3 retransmissions of seq 1 and no answer; the path is in doubt"
        assert note.endswith(f"— {words} —")

    def test_icmp_error_that_ends_nothing_is_a_note(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.we("PSH,ACK", b"hello")
        error = OSError(errno.EHOSTUNREACH, "No route to host")
        conversation.tracer(SoftError(conversation.now_ns, conversation.flow, error))
        _, note = rows(ladder.render())[-2:]
        assert note.endswith("— ICMP error: host unreachable; the connection goes on for now —")

    def test_third_duplicate_ack_note_stands_after_the_segment_that_brought_it(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        first = conversation.we("ACK", b"x" * 1460)
        conversation.we("ACK", b"x" * 1460)
        # The engine tells of the loss while it processes the segment, so before the segment's own event.
        conversation.tracer(LossDetected(conversation.now_ns, conversation.flow, 1, "third duplicate ACK"))
        conversation.peer("ACK", ack=first.seq)
        ack, note = rows(ladder.render())[-2:]
        assert "<── ACK seq 1 ack 1 " in ack
        assert note.endswith("— loss detected: seq 1 has not arrived (third duplicate ACK) —")
        assert "still waits for seq 1: a duplicate acknowledgement" in ladder.render()

    @pytest.mark.parametrize("verbose", [False, True])
    def test_congestion_changes_show_only_when_verbose(self, script, verbose):
        ladder = Ladder(verbose=verbose)
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.tracer(CongestionChange(conversation.now_ns, conversation.flow, 2920, 1460, "timeout"))
        conversation.we("ACK")
        assert ("congestion window 2920, threshold 1460: timeout" in ladder.render()) is verbose

    def test_hits_of_a_batch_are_drawn_in_the_order_of_its_packets(self, script, ladder):
        """A batch passes the rules before its first packet is processed."""
        conversation = script(ladder)
        conversation.passive_handshake()
        tracer, later = conversation.tracer, []
        conversation.tracer = later.append
        conversation.peer("ACK", b"a" * 10)
        conversation.lose_from_peer("ACK", b"b" * 10, rule="drop data nth=2")
        conversation.peer("ACK", b"c" * 10)
        first, hit, second = later
        for event in (hit, first, second):
            tracer(event)
        conversation.tracer = tracer
        conversation.we("ACK")
        one, two, three, _ = rows(ladder.render())[-4:]
        assert "<── ACK seq 1 ack 1 len 10" in one
        assert "X── ACK seq 11 ack 1 len 10" in two
        assert "<── ACK seq 21 ack 1 len 10" in three
        assert "sent before" not in ladder.render()

    def test_incoming_duplicate_second_one_is_called_a_copy(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        tracer, later = conversation.tracer, []
        conversation.tracer = later.append
        data = conversation.peer("ACK", b"a" * 10)
        conversation.tracer = tracer
        conversation.hit(data, "in", "duplicate 5%", "duplicated")
        tracer(later[0])
        assert "the copy that the fault rule made" not in ladder.render()
        tracer(later[0])
        text = ladder.render()
        assert "the segment with seq 1, len 10, from kernel is duplicated by the fault rule “duplicate 5%”" in text
        assert text.count("the copy that the fault rule made") == 1

    def test_held_back_and_dropped_later_is_a_note(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        late = conversation.we("ACK", b"a" * 10)
        conversation.hit(late, "out", "reorder 5%", "held back")
        conversation.we("ACK", b"b" * 10)
        conversation.hit(late, "out", "loss 5%")
        held, _, killed = rows(ladder.render())[-3:]
        assert held.endswith("> ~ESTABLISHED")
        assert killed.startswith("   0.400  — the segment with seq 1, len 10, from tcpstack is killed by")

    def test_gap_is_told(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.peer("ACK", b"b" * 10, seq=2_817_361_922 + 30)
        assert "ahead of its turn: 30 octets before it are missing" in ladder.render()

    def test_sack_blocks_count_from_the_isn_as_acks_do(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        for _ in range(3):
            conversation.we("ACK", b"x" * 500)
        blocks = ((991_823_412 + 500, 991_823_412 + 1000), (991_823_412 + 1200, 991_823_412 + 1500))
        conversation.peer("ACK", ack=991_823_412, options=Options(sack=blocks))
        text = ladder.render()
        assert "win 502 sack 501:1001 " in text
        assert " sack 1201:1501; still waits for seq" in text

    def test_window_closes_and_opens_is_told(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.we("PSH,ACK", b"x" * 500)
        conversation.peer("ACK", wnd=0)
        conversation.peer("ACK", wnd=400)
        text = ladder.render()
        assert "acknowledges our 500 octets, no more room (window 0)" in text
        assert "window update: room for 400 octets" in text


class TestSeveralConversations:
    def test_live_rows_carry_the_conversation_number_once_there_are_two(self, script):
        written: list[str] = []
        ladder = Ladder(written.append, peer="kernel")
        first = script(ladder)
        second = script(ladder, peers=(first.peers[0], 41235))
        for conversation in (first, second):
            conversation.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        for conversation in (second, first):
            conversation.we("SYN,ACK")
        ladder.flush()
        lines = "".join(written).splitlines()
        arrows = [re.sub(r"^ +(\d) .*(SYN(,ACK)?) seq.*", r"\1 \2", line) for line in lines if " seq 0" in line]
        assert arrows[0].startswith("       0.000  LISTEN")  # as long as it is alone it needs no number
        assert arrows[1:] == ["2 SYN", "2 SYN,ACK", "1 SYN,ACK"]
        assert all(re.match(r"  [ 12] ", line) for line in lines)
        assert sum("count from each end's" in line for line in lines) == 1

    def test_render_groups_interleaved_conversations(self, script, ladder):
        first = script(ladder)
        second = script(ladder, peers=(first.peers[0], 41235))
        for step in ("SYN", "ACK"):
            for conversation in (first, second):
                conversation.peer(step, before=LISTEN, after=SYN_RECEIVED)
        one, two = ladder.render().split("── conversation 2 ─")
        assert "10.9.0.1:41234" in one
        assert "10.9.0.1:41235" in two
        assert len(rows(one)) == len(rows(two)) == 2

    def test_held_segment_of_another_conversation_is_drawn_first(self, script):
        written: list[str] = []
        ladder = Ladder(written.append)
        first = script(ladder)
        second = script(ladder, peers=(first.peers[0], 41235))
        first.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        first.we("SYN,ACK")
        assert "SYN,ACK" not in "".join(written)
        second.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        assert "SYN,ACK" in "".join(written)

    def test_only_shows_one_flow_and_no_numbers(self, script):
        written: list[str] = []
        first = script(lambda event: ladder(event))
        ladder = Ladder(written.append, only=first.flow)
        second = script(ladder, peers=(first.peers[0], 41235))
        for conversation in (second, first):
            conversation.passive_handshake()
        ladder.flush()
        text = "".join(written)
        assert "41235" not in text
        assert len(rows(text)) == 4
        assert "conversation 1" not in text

    def test_same_name_again_is_another_conversation(self, script, ladder):
        play_curl(script(ladder))
        again = script(ladder, peer_isn=3_000_000_000)
        again.at = 1
        again.state = TIME_WAIT
        again.user(RCV_NEWER_SYN)
        again.passive_handshake()
        one, two = ladder.render().split("── conversation 2 ─")
        assert rows(one)[-1].endswith("— SYN of a new incarnation arrives: TIME-WAIT → CLOSED —")
        assert "ISN 3000000000" in two
        assert "~CLOSED → SYN-SENT" in two
        assert "LISTEN → SYN-RECEIVED —" not in one + two

    def test_same_name_opened_by_us_again_is_another_conversation(self, script, ladder):
        for isn in (1000, 2000):
            conversation = script(ladder, our_isn=isn)
            conversation.active_handshake()
            conversation.user(ABORT)
        assert "── conversation 2 ─" in ladder.render()

    def test_unexpected_syn_while_established_stays_in_its_conversation(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.peer("SYN", seq=12345)
        assert "conversation 2" not in ladder.render()

    def test_many_conversations_the_silent_ones_are_forgotten(self, script, monkeypatch):
        monkeypatch.setattr("tcpstack.observe.ladder._MAX_LIVE", 2)
        monkeypatch.setattr("tcpstack.observe.ladder._MAX_KEPT", 3)
        ladder = Ladder()
        for port in range(5):
            script(ladder, peers=(bytes(4), 1000 + port)).passive_handshake()
        assert len(ladder._live) == 2
        text = ladder.render()
        assert "── conversation 3 ─" in text
        assert "── conversation 4 ─" not in text
        assert text.endswith("(2 more conversations, not kept)\n")

    def test_very_long_conversation_keeps_its_beginning_and_end(self, script, monkeypatch):
        monkeypatch.setattr("tcpstack.observe.ladder._HALF_KEPT_LINES", 20)
        ladder = Ladder()
        conversation = script(ladder)
        conversation.passive_handshake()
        for _ in range(200):
            conversation.peer("ACK", b"x")
        conversation.peer("RST", after=CLOSED)
        lines = ladder.render().splitlines()[7:]
        assert len(lines) == 41
        assert re.search(r"\(\d+ lines left out\)", lines[20])
        assert "RST" in lines[-2]


class TestDrawing:
    def test_segment_out_is_drawn_with_the_next_event_or_on_flush(self, script):
        written: list[str] = []
        ladder = Ladder(written.append)
        conversation = script(ladder)
        conversation.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        conversation.we("SYN,ACK")
        assert "SYN,ACK" not in "".join(written)
        ladder.flush()
        assert "SYN,ACK" in "".join(written)

    def test_defer_draws_at_the_end_of_the_turn(self, script):
        written: list[str] = []
        turn: list = []
        ladder = Ladder(written.append, defer=turn.append)
        conversation = script(ladder)
        conversation.lose_from_peer("SYN", rule="drop syn nth=1")
        conversation.peer("SYN", seq=2_817_361_921, before=LISTEN, after=SYN_RECEIVED)
        conversation.we("SYN,ACK")
        assert len(turn) == 1
        turn.pop()()
        assert "SYN,ACK" in "".join(written)
        conversation.we("SYN,ACK", seq=991_823_411)
        assert len(turn) == 1

    def test_hostile_payload_emits_no_control_character(self, script):
        written: list[str] = []
        ladder = Ladder(written.append)
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.peer("PSH,ACK", b"\x1b]0;owned\x07\x9b31m" + "\u202eright to left".encode())
        conversation.peer("PSH,ACK", b'say "\x1b[2J" please, and a lot of harmless text after it\r\n')
        conversation.we("ACK", why="a reason\x1b[31m with\r\n a sting\u202e")
        killed = conversation.we("ACK")
        conversation.hit(killed, "out", "loss\x1b[5m 5%")
        ladder.flush()
        text = "".join(written)
        assert all(character.isprintable() or character == "\n" for character in text)
        assert r'"say \"\x1b[2J\" please' in text

    def test_color_adds_nothing_but_color(self, script):
        plain, colored = Ladder(peer="kernel"), Ladder(peer="kernel", color=True)
        for ladder in (plain, colored):
            play_curl(script(ladder))
        assert "\x1b[" in colored.render()
        stripped = re.sub(r"\x1b\[\d*m", "", colored.render())
        assert [line.rstrip() for line in stripped.splitlines()] == plain.render().splitlines()

    def test_ascii_ladder_has_the_same_shape(self, script):
        plain, narrow = Ladder(peer="kernel"), Ladder(peer="kernel", ascii=True)
        for ladder in (plain, narrow):
            play_curl(script(ladder))
        assert narrow.render().isascii()
        assert list(map(len, narrow.render().splitlines())) == list(map(len, plain.render().splitlines()))

    def test_nothing_seen_renders_nothing(self, ladder):
        assert ladder.render() == ""

    def test_known_peer_is_not_marked_as_inferred(self, script):
        known = KnownPeers()
        ladder = Ladder(known=known)
        conversation = script(ladder)
        local, lport, remote, rport = conversation.flow
        mirrored = (remote, rport, local, lport)
        known(StateChange(0, mirrored, CLOSED, SYN_SENT, ACTIVE_OPEN))
        conversation.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        conversation.we("SYN,ACK")
        known(StateChange(0, mirrored, SYN_SENT, ESTABLISHED, "SYN,ACK arrives"))
        conversation.peer("ACK", after=ESTABLISHED)
        syn, answer, *_, ack = rows(ladder.render())
        assert syn.endswith("─ SYN-SENT")
        assert answer.endswith("> ESTABLISHED")
        assert ack.endswith("─ ESTABLISHED")
        assert "~" not in ladder.render()

    def test_known_peer_shows_what_each_segment_did_there_whenever_it_is_drawn(self, script):
        known, early, events = KnownPeers(), [], []
        conversation = script(events.append)
        local, lport, remote, rport = conversation.flow
        mirrored = (remote, rport, local, lport)
        asked = conversation.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        answer = conversation.we("SYN,ACK")
        early.append(StateChange(0, mirrored, CLOSED, SYN_SENT, ACTIVE_OPEN))
        early.append(SegmentOut(0, mirrored, asked, SYN_SENT))
        early.append(SegmentIn(0, mirrored, answer, SYN_SENT, ESTABLISHED))
        for event in early:
            known.expect(event)
        ladder = Ladder(known=known)
        for event in events:
            ladder(event)
        syn, told = rows(ladder.render())[:2]
        assert syn.endswith("─ CLOSED → SYN-SENT")
        assert told.endswith("> SYN-SENT → ESTABLISHED")

    def test_text_that_continues_is_not_previewed_again(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.we("ACK", b"first line\n" + b"a" * 1000)
        conversation.we("PSH,ACK", b"continued" * 100)
        conversation.we("PSH,ACK", b"next message\n")
        text = ladder.render()
        assert '"first line" …' in text
        assert "continued" not in text
        assert '"next message"\n' in text

    def test_state_moves_that_the_segment_does_not_tell_get_their_line(self, script, ladder):
        """CLOSE before the handshake was done: the ACK of our SYN goes on to FIN-WAIT-1 in one step."""
        conversation = script(ladder)
        conversation.peer("SYN", before=LISTEN, after=SYN_RECEIVED)
        conversation.we("SYN,ACK")
        conversation.user("ACK of our SYN arrives")
        conversation.user(CLOSE)
        conversation.peer("ACK", before=SYN_RECEIVED, after=FIN_WAIT_1)
        ack, arrives, closes = rows(ladder.render())[-3:]
        assert "SYN-RECEIVED → FIN-WAIT-1 " in ack
        assert arrives.endswith("— ACK of our SYN arrives: SYN-RECEIVED → ESTABLISHED —")
        assert closes.endswith("— our application had closed: ESTABLISHED → FIN-WAIT-1 —")

    def test_abort_by_a_segment_stands_with_it(self, script, ladder):
        """Text for an application that is gone, and in it the ACK of our FIN."""
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.user(CLOSE)
        conversation.we("FIN,ACK")
        conversation.user("ACK of our FIN arrives")
        conversation.user(ABORT)
        text = conversation.segment("PSH,ACK", b"GET", out=False)
        ladder(SegmentIn(conversation.now_ns, conversation.flow, text, FIN_WAIT_1, CLOSED))
        conversation.we("RST", why="RST: text arrived after the application closed")
        fin, text, acked, gone, reset = rows(ladder.render())[-5:]
        assert "FIN,ACK" in fin
        assert "FIN-WAIT-1 → CLOSED " in text
        assert acked.endswith("— ACK of our FIN arrives: FIN-WAIT-1 → FIN-WAIT-2 —")
        assert gone.endswith("— our application was gone: FIN-WAIT-2 → CLOSED —")
        assert "RST seq" in reset

    def test_abort_by_a_segment_alone_is_told_by_its_row(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.user(ABORT)
        text = conversation.segment("PSH,ACK", b"GET", out=False)
        ladder(SegmentIn(conversation.now_ns, conversation.flow, text, ESTABLISHED, CLOSED))
        assert "ESTABLISHED → CLOSED " in last_row(ladder)
        assert "aborts" not in ladder.render()

    def test_close_by_the_user_stands_before_the_segment_that_comes_next(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.user(CLOSE)
        conversation.peer("PSH,ACK", b"GET")
        closes, text = rows(ladder.render())[-2:]
        assert closes.endswith("— our application closes: ESTABLISHED → FIN-WAIT-1 —")
        assert "PSH,ACK" in text

    def test_change_of_state_is_drawn_before_another_connection_speaks(self, script):
        written: list[str] = []
        ladder = Ladder(written.append)
        one, two = script(ladder), script(ladder, peers=(script(ladder).peers[0], 999))
        one.passive_handshake()
        one.user(CLOSE)
        two.passive_handshake()
        text = "".join(written)
        assert text.index("our application closes") < text.index(":999")

    def test_change_of_state_is_drawn_at_the_end_of_the_turn(self, script):
        written: list[str] = []
        later: list = []
        ladder = Ladder(written.append, defer=later.append)
        conversation = script(ladder)
        conversation.passive_handshake()
        for each in later:
            each()
        later.clear()
        conversation.user(CLOSE)
        assert "our application closes" not in "".join(written)
        [end_turn] = later
        end_turn()
        assert "our application closes" in written[-1]

    def test_times_never_run_backwards(self, script, ladder):
        """Users act by the clock, what the engine sends of it bears the time of its batch."""
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.at += 0.3
        conversation.user(CLOSE)
        conversation.at -= 0.3
        conversation.we("FIN,ACK")
        times = [float(line.split()[0]) for line in rows(ladder.render())]
        assert times == sorted(times)

    def test_listener_that_answers_for_a_connection_that_is_over_is_no_state_of_it(self, script, ladder):
        conversation = script(ladder)
        conversation.passive_handshake()
        conversation.user(ABORT)
        conversation.we("RST")
        conversation.peer("ACK", before=LISTEN, after=LISTEN)
        conversation.we("RST")
        late, reset = rows(ladder.render())[-2:]
        assert late.split()[1] == reset.split()[1] == "CLOSED"

    @pytest.mark.parametrize(
        ("at_ms", "shown"),
        [(9_999.9, "9999.900  "), (10_000.0, "10000.000 "), (99_999.9, "99999.900 "), (100_000.0, "100000.00 "),
         (2_000_000.0, "2000000.0 ")],
    )  # fmt: skip
    def test_times_keep_three_decimals_while_there_is_room(self, script, ladder, at_ms, shown):
        conversation = script(ladder)
        conversation.at = -0.1
        conversation.passive_handshake()
        conversation.at = at_ms
        conversation.user(CLOSE)
        assert last_row(ladder).startswith(shown + "—")
