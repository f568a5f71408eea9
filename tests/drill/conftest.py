"""Scripts that a test writes itself: `drill("...")` runs one on the engine, in exact time unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tcpstack.drill.run import Result, run_file

EXACT = (("tolerance_usecs", "0"), ("tolerance_percent", "0"))
LISTENING = """\
    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
   +0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
   +0 bind(3, ..., ...) = 0
   +0 listen(3, 1) = 0
"""
ESTABLISHED = LISTENING + """\
   +0 < S 0:0(0) win 32792 <mss 1000>
   +0 > S. 0:0(0) ack 1 <mss 1460>
  +.1 < . 1:1(0) ack 1 win 32792
   +0 accept(3, ..., ...) = 4
"""


@pytest.fixture
def drill(tmp_path: Path) -> Callable[..., Result]:
    """`drill(text, before=ESTABLISHED, options=EXACT)`: the result of a script that goes on after `before`."""

    def run(text: str, *, before: str = ESTABLISHED, options: tuple[tuple[str, str], ...] = EXACT) -> Result:
        path = tmp_path / "script.pkt"
        path.write_text(before + text)
        return run_file(path, options=options)

    return run


@pytest.fixture
def listening() -> str:
    return LISTENING
