"""The search was wrong: patience counts from the last answer, not from the last segment heard."""

from tcpstack.core.config import Config
from tcpstack.device.pipe import Line
from tcpstack.sim.search import Case, Plan, Talk, show

CASE = Case(
    seed=30_058_935,
    lines=(Line(rate_bps=100_000), Line()),
    faults=((), ("mtu 1280",)),
    configs=(Config(), Config(r2_ns=150_000_000_000)),
    talks=(Talk(at_ns=0, opener=1, port=176, plans=(Plan(writes=((0, 2_000),)), Plan(writes=((0, 1_460),)))),),
    lasts_ns=60_000_000_000,
    heals=False,
)

if __name__ == "__main__":
    raise SystemExit(show(CASE))
