"""What both ends of a handshake offer, and what the two offers come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.core.config import Config
from tcpstack.core.handshake import MAX_SHIFT, Negotiated, mss_for, syn_options
from tcpstack.core.segment import Options

V4, V6 = bytes([10, 9, 0, 1]), bytes(16)


@pytest.mark.rfc9293("SHLD-6", "MUST-67")
def test_mss_is_the_mtu_less_fixed_headers() -> None:
    assert mss_for(1500, V4) == 1460
    assert mss_for(1500, V6) == 1440
    assert mss_for(576, V4) == 536


@pytest.mark.rfc9293("MUST-14", "SHLD-5", "MAY-3")
@pytest.mark.parametrize("answering", [False, True])
def test_every_syn_offers_our_mss(answering: bool) -> None:
    assert syn_options(Config(), 1460, Options(), answering).mss == 1460
    assert syn_options(Config(), 536, None, answering).mss == 536


def test_scale_is_offered_first_and_answered_only_where_offered() -> None:
    config = Config(receive_buffer_bytes=512 * 1024)
    assert syn_options(config, 1460, None, answering=False).wscale == 4
    assert syn_options(config, 1460, Options(wscale=0), answering=True).wscale == 4
    assert syn_options(config, 1460, Options(mss=1460), answering=True).wscale is None
    assert syn_options(config, 1460, None, answering=True).wscale is None


def test_scale_is_never_offered_where_it_is_switched_off() -> None:
    config = Config(window_scaling=False)
    assert syn_options(config, 1460, None, answering=False).wscale is None
    assert syn_options(config, 1460, Options(wscale=7), answering=True).wscale is None


def test_small_buffer_offers_shift_zero_which_is_not_nothing() -> None:
    assert syn_options(Config(receive_buffer_bytes=4000), 1460, None, answering=False).wscale == 0


@pytest.mark.rfc9293("MUST-15")
@pytest.mark.parametrize("peer", [None, Options(), Options(wscale=3)])
def test_absent_mss_means_the_default_of_the_family(peer: Options | None) -> None:
    assert Negotiated(Config(), 1460, peer, V4).mss == 536
    assert Negotiated(Config(), 1440, peer, V6).mss == 1220


@pytest.mark.rfc9293("MUST-16")
def test_effective_mss_is_the_smaller_of_both_ends() -> None:
    assert Negotiated(Config(), 1460, Options(mss=9000), V4).mss == 1460
    assert Negotiated(Config(), 1460, Options(mss=1000), V4).mss == 1000
    assert Negotiated(Config(), 400, None, V4).mss == 400


@given(st.integers(0, 0xFFFF))
def test_no_mss_that_a_peer_can_offer_makes_empty_segments(offered: int) -> None:
    assert 48 <= Negotiated(Config(), 1460, Options(mss=offered), V4).mss <= 1460


def test_window_scale_zero_from_the_peer_turns_scaling_on() -> None:
    both = Negotiated(Config(receive_buffer_bytes=512 * 1024), 1460, Options(wscale=0), V4)
    assert (both.snd_shift, both.rcv_shift) == (0, 4)


def test_no_window_scale_from_the_peer_leaves_both_shifts_zero() -> None:
    neither = Negotiated(Config(receive_buffer_bytes=512 * 1024), 1460, Options(mss=1460), V4)
    assert (neither.snd_shift, neither.rcv_shift) == (0, 0)


def test_scaling_switched_off_ignores_the_peers_offer() -> None:
    off = Negotiated(Config(window_scaling=False), 1460, Options(wscale=7), V4)
    assert (off.snd_shift, off.rcv_shift) == (0, 0)


@pytest.mark.parametrize("shift", [15, 255])
def test_shift_above_14_counts_as_14(shift: int) -> None:
    """RFC 7323 2.3: "the TCP SHOULD log the error but MUST use 14 instead"."""
    assert Negotiated(Config(), 1460, Options(wscale=shift), V4).snd_shift == MAX_SHIFT == 14
