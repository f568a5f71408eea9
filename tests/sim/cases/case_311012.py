"""Violation: b: [Errno 110] connection timed out, though the network has healed in time

Both ends have probed each other's closed windows, the updates were lost; each had taken the other's octet, and refused
the ACKs of it, which stood before that octet. Found by `tcpstack fuzz`, shrunk.
"""

from tcpstack.core.config import Config
from tcpstack.device.pipe import Line
from tcpstack.sim.search import Case, Plan, Talk, play

CASE = Case(
    seed=311_012,
    lines=(Line(delay_ns=150_000_000, jitter_ns=40_000_000), Line(jitter_ns=40_000_000)),
    faults=(("delay 5ms jitter 1ms seed=187", "delay 60ms jitter 30ms seed=33 dir=in"), ()),
    configs=(Config(receive_buffer_bytes=2_000, delayed_ack_ns=0), Config(receive_buffer_bytes=2_000)),
    talks=(
        Talk(
            at_ns=0,
            opener=0,
            port=160,
            plans=(
                Plan(writes=((500_000_000, 7_500),), ending="wait"),
                Plan(writes=((0, 1), (30_000_000, 30_000)), read_bytes=3_000, read_every_ns=30_000_000_000),
            ),
        ),
        Talk(
            at_ns=1_000_000,
            opener=1,
            port=160,
            plans=(
                Plan(writes=((500_000_000, 30_000),), read_every_ns=30_000_000_000, paced=True),
                Plan(
                    writes=(
                        (0, 1),
                        (30_000_000, 30_000),
                        (530_000_000, 700),
                        (530_000_000, 80_000),
                        (531_000_000, 30_000),
                    ),
                    read_bytes=100,
                    read_every_ns=700_000_000,
                    ending="wait",
                ),
            ),
            both_open=True,
            lport=333,
        ),
        Talk(
            at_ns=1_000_000_000,
            opener=0,
            port=187,
            plans=(Plan(writes=((500_000_000, 30_000),)), Plan(writes=((0, 700),))),
            lport=333,
        ),
        Talk(
            at_ns=1_000_000_000,
            opener=1,
            port=187,
            plans=(
                Plan(writes=((0, 1_000),), ending="close"),
                Plan(writes=((30_000_000, 80_000), (30_000_000, 4_000)), paced=True),
            ),
            lport=333,
        ),
    ),
    lasts_ns=2_000_000_000,
    accept_ns=50_000_000,
)

if __name__ == "__main__":
    print(play(CASE))
