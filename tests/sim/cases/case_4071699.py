"""Violation: sent twice, though nothing was lost: a: <Segment 36066>59 FIN,PSH,ACK seq=3437950885 ack=1346881521 wnd=1
len=1> (retransmission: third duplicate ACK)

Found by `tcpstack fuzz --seed 4071699 --cases 1`.
"""

from tcpstack.core.config import Config
from tcpstack.device.pipe import Line
from tcpstack.sim.search import Case, Plan, Talk, show

CASE = Case(
    seed=4_071_699,
    octets=True,
    lines=(Line(rate_bps=10_000_000, delay_ns=20_000_000), Line()),
    configs=(
        Config(
            receive_buffer_bytes=1,
            send_buffer_bytes=1,
            timestamps=False,
            keepalive_idle_ns=5_000_000_000,
            keepalive_interval_ns=20_000_000_000,
        ),
        Config(
            receive_buffer_bytes=20_000,
            send_buffer_bytes=3_000,
            sack=False,
            timestamps=False,
            keepalive_idle_ns=1_000_000_000,
            keepalive_interval_ns=1_000_000_000,
        ),
    ),
    talks=(
        Talk(
            at_ns=0,
            opener=0,
            port=59,
            plans=(
                Plan(writes=((30_000_000, 1),)),
                Plan(writes=((0, 1), (0, 1), (0, 1), (0, 1), (0, 1)), urgent=True),
            ),
        ),
    ),
    lasts_ns=60_000_000_000,
)

if __name__ == "__main__":
    raise SystemExit(show(CASE))
