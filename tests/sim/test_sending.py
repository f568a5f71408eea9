"""What leaves and when, in simulation, where what is lost is chosen."""

from __future__ import annotations

import pytest

from tcpstack.core.config import MILLISECOND_NS, Config
from tcpstack.core.events import LossDetected, RetransmissionTimeout
from tcpstack.device.pipe import Line
from tests.sim.test_offload import WHO_OFFLOADS, Dialogue

DELAY_NS = 20 * MILLISECOND_NS


@pytest.mark.parametrize("offloads", WHO_OFFLOADS)
def test_loss_in_a_flight_of_two_is_mended_without_a_timeout(offloads):
    """Limited transmit (RFC 3042): without SACK three duplicates are needed, and one segment alone has gone on."""
    rules = ("drop syn dir=out nth=1", "drop data dir=out nth=2")  # a SYN that is lost leaves cwnd at one segment
    dialogue = Dialogue(
        offloads, Line(delay_ns=DELAY_NS), rules, says=[20 * 1460, 0], seed=1, config=Config(sack=False)
    )
    dialogue.outcome()
    assert dialogue.heard == dialogue.said[::-1]
    losses = [event for event in dialogue.events if isinstance(event, LossDetected)]
    timeouts = [event.una for event in dialogue.events if isinstance(event, RetransmissionTimeout)]
    assert [(event.una, event.trigger) for event in losses] == [(1461, "third duplicate ACK")]
    assert timeouts == [0]  # the SYN's
