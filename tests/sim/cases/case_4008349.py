"""Violation: 1260000 events in under 20.0 simulated seconds

Found by `tcpstack fuzz --seed 4008349 --cases 1`.
"""

from tcpstack.core.config import Config
from tcpstack.device.pipe import Line
from tcpstack.sim.search import Case, Plan, Talk, show

CASE = Case(
    seed=4_008_349,
    octets=True,
    lines=(Line(), Line(jitter_ns=40_000_000)),
    faults=(("burst-loss enter=1% leave=10% seed=407", "rate 300kbit queue 5kB"), ("reorder 20% seed=440 dir=in",)),
    configs=(
        Config(
            receive_buffer_bytes=2_000,
            send_buffer_bytes=64_000,
            timestamps=False,
            nagle=False,
            delayed_ack_ns=0,
            keepalive_idle_ns=1_000_000_000,
            keepalive_interval_ns=1_000_000_000,
        ),
        Config(),
    ),
    talks=(
        Talk(
            at_ns=0,
            opener=0,
            port=187,
            plans=(
                Plan(read_every_ns=1_000_000, ending="wait"),
                Plan(
                    writes=(
                        (1_000_000, 3_750),
                        (2_000_000, 10_000),
                        (2_000_000, 500),
                        (2_000_000, 1),
                        (2_000_000, 3_750),
                        (32_000_000, 500),
                        (62_000_000, 182),
                        (562_000_000, 1),
                        (592_000_000, 1),
                        (1_092_000_000, 10_000),
                    ),
                    urgent=True,
                ),
            ),
        ),
        Talk(
            at_ns=0,
            opener=0,
            port=30,
            plans=(Plan(writes=((30_000_000, 80_000), (530_000_000, 1))), Plan(writes=((30_000_000, 1),))),
        ),
    ),
)

if __name__ == "__main__":
    raise SystemExit(show(CASE))
