"""Assertions about TCP_INFO are Python, and no more of it than assertions need."""

from __future__ import annotations

import struct

import pytest

from tcpstack.drill import tcp_info
from tcpstack.drill.snippets import SnippetError, Snippets
from tcpstack.drill.traffic import Traffic

INFO = {"tcpi_snd_cwnd": 10, "tcpi_unacked": 3, "tcpi_options": 6, "tcpi_ca_state": 3}


def error_of(text: str) -> str:
    with pytest.raises(SnippetError) as caught:
        Snippets().run(text, INFO)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "assert tcpi_snd_cwnd == 10",
        " assert tcpi_snd_cwnd == 10, tcpi_snd_cwnd ",
        "assert tcpi_snd_cwnd == 10, 'cwnd=%d' % tcpi_snd_cwnd",
        "assert tcpi_snd_cwnd == 10, f'{tcpi_snd_cwnd}'",
        "\nassert tcpi_unacked == 3\nassert 9 <= tcpi_snd_cwnd <= 11\n",
        "assert (tcpi_options & TCPI_OPT_WSCALE) != 0; assert not tcpi_options & TCPI_OPT_ECN",
        "assert tcpi_ca_state == TCP_CA_Recovery and tcpi_unacked in (1, 2, 3)",
        "x = abs(tcpi_unacked - 5)\nassert min(x, 9) == 2",
        "if tcpi_unacked > 9:\n  assert False\nelse:\n  pass",
        "  assert True\n  assert True",
        " assert tcpi_unacked == 3, tcpi_unacked;\\\n   assert True;\\\n",
        "",
    ],
)
def test_assertions_that_hold(text: str) -> None:
    Snippets().run(text, INFO)


def test_an_assertion_that_does_not_hold_tells_the_values() -> None:
    assert error_of("assert tcpi_snd_cwnd == tcpi_unacked") == (
        "tcpi_snd_cwnd == tcpi_unacked does not hold: tcpi_snd_cwnd is 10, tcpi_unacked is 3"
    )
    assert error_of("x = 1\nassert x == 2, 'no x'") == "x == 2 does not hold (no x)"


def test_later_snippets_know_what_earlier_ones_assigned() -> None:
    snippets = Snippets()
    snippets.run("before = tcpi_snd_cwnd", INFO)

    snippets.run("assert tcpi_snd_cwnd == before + 2", {"tcpi_snd_cwnd": 12})


def test_what_is_printed_is_kept() -> None:
    snippets = Snippets()
    snippets.run("print(tcpi_unacked, 'segments')", INFO)

    assert snippets.printed == ["3 segments"]


@pytest.mark.parametrize(
    "text",
    [
        "import os", "open('/etc/passwd')", "__import__('os')", "().__class__", "tcpi_unacked.real",
        "x = [i for i in (1,)]",
        "while True: pass", "def f(): pass", "lambda: 1", "x = {}", "9 ** 99999999", "1 << 99999999999", "x[0] = 1",
        "(print)(1)(2)", "del x", "global x", "exec('1')", "assert (y := 1)", "'%s' @ 1",
    ],
)  # fmt: skip
def test_what_is_no_assertion_is_refused(text: str) -> None:
    with pytest.raises(SnippetError):
        Snippets().run(text, INFO)


@pytest.mark.parametrize(
    "text",
    [
        'print("a" * 999999999999)', 'x = 5 * "ab" * 5000', "x = [0] * 99999", "x = [[0] * 5000] * 5",
        'x = "a" * 9000\ny = x + x', 'x = "a" * 9000\ny = [x, x]', 'x = "%999999999d" % 1', 'x = "%*d" % (99999, 1)',
        'x = "%.99999f" % 1.5', 'x = f"{1:99999}"', "x = round(5, -99999999)", 'x = int("9" * 5000)',
        "x = str(b'a', 'x')",
        "x = 7\n" + 12 * "x = x * x\n", f"x = {'9' * 5000}", f"x = 0x{'f' * 5000}",
        f"assert {'-' * 9000}1", f"assert {'1 + ' * 2000}1", f"assert {'(' * 4000}1{')' * 4000}",
        "x = 1 #" + 10_000 * "a", "assert '\0'",
    ],
)  # fmt: skip
def test_no_snippet_uses_up_memory_or_time(text: str) -> None:
    assert len(error_of(text)) < 400


def test_numbers_in_messages_are_no_widths() -> None:
    assert error_of("assert 1 == 2, 'expected 10000, got %05d' % 3") == (
        "1 == 2 does not hold (expected 10000, got 00003)"
    )


def test_what_the_engine_tells_is_what_it_is_said_to_tell() -> None:
    class Status(dict[str, object]):
        def __missing__(self, name: str) -> object:
            return "CLOSED" if name == "state" else 1

    assert set(tcp_info.of_engine(Status(), 0, Traffic().told(0))) == tcp_info.ENGINE_NAMES
    assert set(tcp_info.of_linux(b"")) == tcp_info.LINUX_NAMES
    assert tcp_info.ENGINE_NAMES < tcp_info.LINUX_NAMES


def test_errors_are_told_in_words() -> None:
    assert "this is no Python: " in error_of("assert (")
    assert "there is no nosuch here" in error_of("assert nosuch")
    assert "division by zero" in error_of("assert 1 / 0")
    assert "TypeError" not in error_of("assert 'a' + 1")


def test_tcp_info_of_linux_by_its_layout() -> None:
    octets = bytearray(248)
    octets[0:8] = bytes((1, 4, 2, 0, 0, 7, 0x84, 0))
    struct.pack_into("=4I", octets, 8, 300_000, 40_000, 1000, 536)
    struct.pack_into("=I", octets, 8 + 4 * 18, 11)
    struct.pack_into("=Q", octets, 8 + 96 + 16, 123_456)

    info = tcp_info.of_linux(bytes(octets))

    assert (info["tcpi_state"], info["tcpi_ca_state"], info["tcpi_options"]) == (1, 4, 7)
    assert (info["tcpi_snd_wscale"], info["tcpi_rcv_wscale"]) == (4, 8)
    assert (info["tcpi_rto"], info["tcpi_snd_mss"]) == (300_000, 1000)
    assert info["tcpi_snd_cwnd"] == 11
    assert info["tcpi_bytes_acked"] == 123_456
    assert tcp_info.of_linux(bytes(octets[:104]))["tcpi_bytes_acked"] == 0
