"""The search was wrong: a superpacket joined from pieces of two has the number of the first, and begins elsewhere."""

from tcpstack.core.config import Config
from tcpstack.device.pipe import Line
from tcpstack.sim.search import Case, Plan, Talk, show

CASE = Case(
    seed=20_004_665,
    octets=True,
    routers=1,
    lines=(Line(), Line(jitter_ns=1_000_000)),
    configs=(Config(delayed_ack_ns=0), Config(send_buffer_bytes=3_000)),
    talks=(Talk(at_ns=0, opener=1, port=14, plans=(Plan(writes=((0, 40_000),)), Plan(writes=((500_000_000, 1),)))),),
    lasts_ns=60_000_000_000,
    offloads=(True, True),
)

if __name__ == "__main__":
    raise SystemExit(show(CASE))
