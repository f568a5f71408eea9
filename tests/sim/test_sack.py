"""Selective acknowledgements in simulation: the same streams with them and without, and less that goes again."""

from __future__ import annotations

import pytest

from tcpstack.core.config import MILLISECOND_NS, SECOND_NS, Config
from tcpstack.core.events import CongestionChange, FaultHit, RetransmissionTimeout, SegmentOut
from tcpstack.device.pipe import Line
from tests.sim.test_offload import WHO_OFFLOADS, Dialogue

DELAY_NS = 20 * MILLISECOND_NS
RTT_NS = 2 * DELAY_NS
FAULTS = {
    "loss": ("loss 3%",),
    "reorder": ("reorder 5%",),
    "duplicate": ("duplicate 5%",),
    "all": ("loss 2%", "reorder 3%", "duplicate 3%"),
    "bursts": ("burst-loss enter=1% leave=30%",),
}


def spoken(sack, faults, *, seed, offloads=(False, False), says=(150_000, 60_000)):
    dialogue = Dialogue(
        offloads, Line(delay_ns=DELAY_NS), faults, says=list(says), seed=seed, config=Config(sack=sack)
    )
    dialogue.outcome()
    assert dialogue.heard == dialogue.said[::-1], (seed, offloads, sack)
    assert dialogue.eof == [True, True]
    assert all(error is None for *_, error in dialogue.closed)
    return dialogue


def sent_again(dialogue):
    """Octets of text whose sequence numbers had left before, of both ends."""
    return sum(
        event.segment.payload_len
        for event in dialogue.events
        if isinstance(event, SegmentOut) and event.segment.reason.startswith("retransmission")
    )


def lasted_ns(dialogue):
    text = [event for event in dialogue.events if isinstance(event, SegmentOut) and event.segment.payload_len]
    return text[-1].time_ns - text[0].time_ns


@pytest.mark.parametrize("name", FAULTS)
def test_streams_are_the_same_with_and_without_it_and_less_goes_again(name):
    octets, times = {True: 0, False: 0}, {True: 0, False: 0}
    for seed in range(12):
        for sack in (True, False):
            dialogue = spoken(sack, FAULTS[name], seed=seed, offloads=WHO_OFFLOADS[seed % 4])
            octets[sack] += sent_again(dialogue)
            times[sack] += lasted_ns(dialogue)
    # What is held back longer than a quarter of this round trip looks lost to RACK, and to who counts to three it does
    # not, where it is overtaken by fewer: one segment each time, until the reordering window has grown.
    spared = 12 * 1460 if any("reorder" in rule for rule in FAULTS[name]) else 0
    assert octets[True] <= octets[False] + spared
    assert times[True] <= times[False] * (1.15 if spared else 1.02)


@pytest.mark.parametrize("offloads", WHO_OFFLOADS)
def test_what_goes_again_is_what_was_lost(offloads):
    again = lost = probes = 0
    for seed in range(10):
        dialogue = spoken(True, ("loss 2% data",), seed=seed, offloads=offloads)
        lost += sum(event.segment.payload_len for event in dialogue.events if isinstance(event, FaultHit))
        again += sent_again(dialogue)
        probes += sum(
            event.segment.payload_len
            for event in dialogue.events
            if isinstance(event, SegmentOut) and "tail loss probe" in event.segment.reason
        )
    assert lost <= again <= lost + probes + 4 * 1460


@pytest.mark.parametrize("seed", range(6))
def test_once_reordering_was_seen_it_lowers_nothing(seed):
    """What waits for those that overtake it waits 20 ms at most: less than a quarter of this round trip."""
    dialogue = Dialogue(
        (False, False), Line(20_000_000, 60 * MILLISECOND_NS), ("reorder 3% dir=out",), says=[1_500_000, 0], seed=seed
    )
    dialogue.outcome()
    assert dialogue.heard == dialogue.said[::-1]
    changes = [event for event in dialogue.events if isinstance(event, CongestionChange)]
    whys = [event.why for event in changes]
    assert "timeout" not in whys
    # One response before anything is known, and that is undone.
    assert whys.count("recovery") <= 1
    assert not whys or whys[-1].startswith("undone")


@pytest.mark.parametrize("last", range(1, 6))
@pytest.mark.parametrize("offload", [False, True])
def test_tail_loss_is_mended_in_some_round_trips(last, offload):
    """A flight of ten segments; its last ones are lost."""
    rules = (f"drop data dir=out nth={11 - last}..10",)
    dialogue = Dialogue((offload, False), Line(delay_ns=DELAY_NS), rules, says=[14_600, 0], seed=1)
    dialogue.outcome()
    assert dialogue.heard == dialogue.said[::-1]
    hits = [event for event in dialogue.events if isinstance(event, FaultHit)]
    assert len(hits) == last
    assert not [event for event in dialogue.events if isinstance(event, RetransmissionTimeout)]
    # The acknowledgement, the probe two round trips later (with 200 ms for a single segment), its answer, a quarter for
    # reordering, and then one more for each doubling of what may be in flight.
    assert lasted_ns(dialogue) <= (5 if last < 4 else 6) * RTT_NS + (SECOND_NS // 5 if last == 1 else 0)
