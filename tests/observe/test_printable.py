"""Octets and numbers as people read them; nothing that a terminal would obey."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpstack.observe.printable import duration, ending, endpoint, octets, preview, printable


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ((b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",), '"GET / HTTP/1.1" …'),
        ((b"GET / HTTP/1.1\r\n",), '"GET / HTTP/1.1"'),
        ((b"hello\n",), '"hello"'),
        ((b"hello",), '"hello"'),
        ((b"hel", memoryview(b"lo\nworld")), '"hello" …'),
        ((b"\n\nlate",), r'"\n\nlate"'),
        ((b'say "hi" \\ bye',), r'"say \"hi\" \\ bye"'),
        ((b"tab\there",), r'"tab\there"'),
        ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xaa\xbb\xcc",), "16 03 01 02 00 01 00 01 fc 03 03 aa …"),
        ((b"x" * 48,), '"' + "x" * 48 + '"'),
        ((b"x" * 49,), '"' + "x" * 48 + '" …'),
        ((b"\x00",), r'"\x00"'),
    ],
)
def test_preview_shows_first_line(payload, shown):
    assert preview(payload) == shown


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_preview_any_octets_is_printable_and_short(chunks):
    shown = preview(tuple(chunks))
    assert shown.isprintable()
    assert shown.replace("…", "").isascii()
    assert len(shown) <= 48 * 4 + 4


@given(st.text())
def test_printable_any_text_is_printable(text):
    assert printable(text).isprintable()


def test_printable_leaves_plain_text_alone():
    assert printable("drop syn nth=1 → “fine”") == "drop syn nth=1 → “fine”"
    assert printable("\x1b[31m\u202e") == r"\x1b[31m\u202e"


def test_endpoint_names_both_families():
    assert endpoint(bytes([10, 9, 0, 2]), 80) == "10.9.0.2:80"
    assert endpoint(bytes.fromhex("fd09" + "0" * 27 + "2"), 80) == "[fd09::2]:80"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1234, "1.2 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
        (104_857_600, "104.9 MB"), (3_000_000_000, "3.0 GB"), (5_000_000_000_000, "5000.0 GB"),
    ],
)  # fmt: skip
def test_octets_in_decimal_units(count, shown):
    assert octets(count) == shown


@pytest.mark.parametrize(
    ("time_ns", "shown"),
    [
        (0, "0.0 ms"), (3_140_000, "3.1 ms"), (999_600_000, "1.00 s"), (1_240_000_000, "1.24 s"),
        (125_000_000_000, "2 min 5 s"),
    ],
)  # fmt: skip
def test_duration_in_the_unit_that_fits(time_ns, shown):
    assert duration(time_ns) == shown


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (None, "closed"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "reset by peer"),
        (TimeoutError(errno.ETIMEDOUT, "x"), "timed out"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("odd\x1b"), r"odd\x1b"),
        (OSError(), "OSError"),
    ],
)
def test_ending_in_two_words(error, shown):
    assert ending(error) == shown
