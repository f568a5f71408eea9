"""Violation: sent twice, though nothing was lost: a: <Segment 57864>109 ACK seq=564301639 ack=1510007159 wnd=1024
len=1428 Options(timestamps=(3808269220, 4020955640))> (retransmission: third duplicate ACK)

Found by `tcpstack fuzz --seed 31443 --cases 1`.
"""

from tcpstack.core.config import Config
from tcpstack.device.pipe import Line
from tcpstack.sim.search import Case, Plan, Talk, show

CASE = Case(
    seed=31_443,
    version=6,
    octets=True,
    lines=(Line(jitter_ns=40_000_000), Line()),
    configs=(Config(send_buffer_bytes=3_000, sack=False), Config()),
    talks=(
        Talk(at_ns=1_000_000_000, opener=0, port=109, plans=(Plan(writes=((0, 1_460),), ending="wait"), Plan())),
        Talk(
            at_ns=1_000_000_000,
            opener=0,
            port=109,
            plans=(
                Plan(writes=((30_000_000, 4_000), (30_000_000, 1_460), (60_000_000, 700))),
                Plan(
                    writes=(
                        (1_000_000, 100_000),
                        (2_000_000, 30_000),
                        (2_000_000, 1),
                        (2_000_000, 700),
                        (32_000_000, 10),
                    ),
                    urgent=True,
                ),
            ),
        ),
    ),
)

if __name__ == "__main__":
    raise SystemExit(show(CASE))
