"""The peer's state as core's table has it, from the segments alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.events import StateChange
from tcpstack.core.segment import ACK, FIN, RST, SYN, Segment
from tcpstack.core.state import (
    ACTIVE_OPEN,
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    LISTEN,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    TRANSITIONS,
)
from tcpstack.observe.peer import KnownPeers, PeerInference

WE, PEER = (b"\x0a\x09\x00\x02", 80), (b"\x0a\x09\x00\x01", 41234)
OUR_ISN, PEER_ISN = 2**32 - 3, 2**32 - 1  # both wrap within the first octets


def ours(flags: int, seq: int = 1, ack: int = 1, size: int = 0) -> Segment:
    """One of our segments; numbers relative to the ISNs."""
    return Segment(*WE, *PEER, (OUR_ISN + seq) % 2**32, (PEER_ISN + ack) % 2**32, flags, 1000, (), size)


def peers(flags: int, seq: int = 1, ack: int = 1, size: int = 0) -> Segment:
    return Segment(*PEER, *WE, (PEER_ISN + seq) % 2**32, (OUR_ISN + ack) % 2**32, flags, 1000, (), size)


@pytest.fixture
def inference() -> PeerInference:
    return PeerInference()


@pytest.fixture
def established(inference: PeerInference) -> PeerInference:
    inference.sent(peers(SYN, seq=0))
    inference.reached(ours(SYN | ACK, seq=0))
    inference.sent(peers(ACK))
    assert inference.state == ESTABLISHED
    return inference


def test_nothing_heard_state_is_unknown(inference):
    assert inference.reached(ours(SYN, seq=0))[:3] == (None, None, "")


def test_peer_opens_follows_rfc_9293_figure_6(inference):
    assert inference.sent(peers(SYN, seq=0))[:2] == (CLOSED, SYN_SENT)
    assert inference.reached(ours(SYN | ACK, seq=0))[:2] == (SYN_SENT, ESTABLISHED)
    assert inference.sent(peers(ACK))[:2] == (ESTABLISHED, ESTABLISHED)


def test_peer_listens_follows_rfc_9293_figure_6(inference):
    inference.reached(ours(SYN, seq=0))
    assert inference.sent(peers(SYN | ACK, seq=0))[:2] == (LISTEN, SYN_RECEIVED)
    assert inference.reached(ours(ACK))[:2] == (SYN_RECEIVED, ESTABLISHED)


def test_syn_ack_lost_peer_stays_in_syn_sent(inference):
    inference.sent(peers(SYN, seq=0))
    assert inference.lost(ours(SYN | ACK, seq=0))[:2] == (SYN_SENT, SYN_SENT)


def test_syn_ack_taken_for_lost_peers_ack_proves_otherwise(inference):
    inference.sent(peers(SYN, seq=0))
    inference.lost(ours(SYN | ACK, seq=0))
    assert inference.sent(peers(ACK))[:2] == (ESTABLISHED, ESTABLISHED)


def test_syn_ack_for_another_syn_does_not_establish(inference):
    inference.sent(peers(SYN, seq=0))
    assert inference.reached(ours(SYN | ACK, seq=0, ack=0))[1] == SYN_SENT


def test_syns_cross_peer_goes_through_syn_received(inference):
    inference.reached(ours(SYN, seq=0))
    move = inference.sent(peers(SYN, seq=0))
    assert move[:2] == (CLOSED, SYN_SENT)
    assert "SYN-SENT → SYN-RECEIVED" in move.note
    assert inference.state == SYN_RECEIVED
    assert inference.reached(ours(SYN | ACK, seq=0))[1] == ESTABLISHED


def test_our_syn_lost_peers_own_syn_is_no_crossing(inference):
    inference.lost(ours(SYN, seq=0))
    assert inference.sent(peers(SYN, seq=0))[:3] == (CLOSED, SYN_SENT, "")


def test_peer_closes_first_ends_in_time_wait(established):
    assert established.sent(peers(FIN | ACK))[:2] == (ESTABLISHED, FIN_WAIT_1)
    assert established.reached(ours(ACK, ack=2))[1] == FIN_WAIT_2
    assert established.reached(ours(FIN | ACK, ack=2))[1] == TIME_WAIT


def test_our_fin_acknowledges_peers_fin_in_one_segment(established):
    established.sent(peers(FIN | ACK))
    assert established.reached(ours(FIN | ACK, ack=2))[:2] == (FIN_WAIT_1, TIME_WAIT)


def test_our_ack_does_not_cover_peers_fin_stays_in_fin_wait_1(established):
    established.sent(peers(FIN | ACK, size=10))
    assert established.reached(ours(ACK, ack=11))[1] == FIN_WAIT_1
    assert established.reached(ours(ACK, ack=12))[1] == FIN_WAIT_2


def test_we_close_first_peer_ends_closed(established):
    assert established.reached(ours(FIN | ACK))[1] == CLOSE_WAIT
    assert established.sent(peers(ACK, ack=2))[:2] == (CLOSE_WAIT, CLOSE_WAIT)
    assert established.sent(peers(FIN | ACK, ack=2))[:2] == (CLOSE_WAIT, LAST_ACK)
    assert established.reached(ours(ACK, seq=2, ack=2))[1] == CLOSED


def test_fins_cross_peer_goes_to_closing(established):
    established.reached(ours(FIN | ACK))
    move = established.sent(peers(FIN | ACK, ack=1))
    assert move[:2] == (ESTABLISHED, FIN_WAIT_1)
    assert "FIN-WAIT-1 → CLOSING" in move.note
    assert established.reached(ours(ACK, seq=2, ack=2))[:2] == (CLOSING, TIME_WAIT)


def test_fin_repeated_changes_nothing(established):
    established.reached(ours(FIN | ACK))
    established.sent(peers(FIN | ACK, ack=2))
    assert established.sent(peers(FIN | ACK, ack=2))[:3] == (LAST_ACK, LAST_ACK, "")


def test_our_fin_behind_a_hole_waits_for_the_hole(established):
    established.lost(ours(ACK, seq=1, size=100))
    assert established.reached(ours(FIN | ACK, seq=101))[1] == ESTABLISHED
    assert established.reached(ours(ACK, seq=1, size=60))[1] == ESTABLISHED
    assert established.reached(ours(ACK, seq=61, size=40))[1] == CLOSE_WAIT


def test_our_fin_behind_a_hole_peers_ack_proves_it_whole(established):
    established.lost(ours(ACK, seq=1, size=100))
    established.reached(ours(FIN | ACK, seq=101))
    assert established.sent(peers(ACK, ack=102))[:2] == (CLOSE_WAIT, CLOSE_WAIT)


def test_our_fin_lost_then_again(established):
    assert established.lost(ours(FIN | ACK))[1] == ESTABLISHED
    assert established.reached(ours(FIN | ACK))[1] == CLOSE_WAIT


def test_peer_resets_it_is_closed(established):
    assert established.sent(peers(RST))[:2] == (ESTABLISHED, CLOSED)


def test_our_reset_reaches_peer(established):
    assert established.reached(ours(RST))[:2] == (ESTABLISHED, CLOSED)


def test_our_reset_lost_peer_goes_on(established):
    assert established.lost(ours(RST))[:2] == (ESTABLISHED, ESTABLISHED)


def test_listening_peer_reset_in_syn_received_listens_again(inference):
    inference.reached(ours(SYN, seq=0))
    inference.sent(peers(SYN | ACK, seq=0))
    assert inference.reached(ours(RST))[:2] == (SYN_RECEIVED, LISTEN)


def test_peer_in_syn_sent_resets_a_nonsense_answer_and_stays(inference):
    inference.sent(peers(SYN, seq=0))
    inference.reached(ours(SYN | ACK, seq=0, ack=0))
    assert inference.sent(peers(RST))[:2] == (SYN_SENT, SYN_SENT)


def test_refusing_peer_is_closed(inference):
    inference.reached(ours(SYN, seq=0))
    assert inference.sent(peers(RST | ACK, seq=0))[:2] == (None, CLOSED)


def test_joined_midway_stays_unknown(inference):
    assert inference.sent(peers(ACK, seq=500))[:2] == (None, None)
    assert inference.reached(ours(FIN | ACK, seq=700))[:2] == (None, None)
    assert not inference.heard


def test_four_gigabytes_and_a_close_numbers_keep_their_meaning(established):
    step = 2**30
    for sent in range(1, 5 * step, step):
        established.reached(ours(ACK, seq=sent, size=step))
        established.sent(peers(ACK, ack=sent + step))
    assert established.sent(peers(ACK, ack=5 * step + 1))[1] == ESTABLISHED
    assert established.reached(ours(FIN | ACK, seq=5 * step + 1))[1] == CLOSE_WAIT
    assert established.sent(peers(FIN | ACK, ack=5 * step + 2))[:2] == (CLOSE_WAIT, LAST_ACK)


segments = st.builds(
    lambda out, flags, seq, ack, size: (ours if out else peers)(flags, seq, ack, size),
    st.booleans(), st.integers(0, 63), st.integers(-3, 2**32 + 3), st.integers(-3, 2**32 + 3), st.integers(0, 3),
)  # fmt: skip


@given(st.lists(st.tuples(segments, st.booleans()), max_size=30))
def test_any_segments_in_any_order_moves_are_the_tables(run):
    """Whatever comes, nothing raises, and each state is one that the table leads to from the one before."""
    reachable = {state: {state} for state in range(TIME_WAIT + 1)}
    for _ in range(3):  # an evidence, a user call and an arrival can fall upon one segment
        for followers in reachable.values():
            followers |= {TRANSITIONS[s, e] for s, e in TRANSITIONS if s in followers}
    inference = PeerInference()
    for segment, arrives in run:
        before = inference.state
        if segment.sport == PEER[1]:
            inference.sent(segment)
        elif arrives:
            inference.reached(segment)
        else:
            inference.lost(segment)
        # A crossing of FINs takes the state back to where it was before ours.
        assert inference.state in reachable[before] or inference.state == CLOSING


def test_known_peers_bounded(monkeypatch):
    monkeypatch.setattr("tcpstack.observe.peer._REMEMBERED", 3)
    known = KnownPeers()
    for port in range(10):
        known(StateChange(0, (b"b", port, b"a", 80), CLOSED, SYN_SENT, ACTIVE_OPEN))
    found = [known.state((b"a", 80, b"b", port)) for port in range(10)]
    assert found == [None] * 7 + [SYN_SENT] * 3
