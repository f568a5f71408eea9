"""The search was wrong: text that is here already is reported by an ACK of its own, beside that of a FIN with it."""

from tcpstack.core.config import Config
from tcpstack.device.pipe import Line
from tcpstack.sim.search import Attack, Case, Plan, Talk, show

CASE = Case(
    seed=30_014_018,
    version=6,
    routers=2,
    lines=(Line(rate_bps=1_000_000_000), Line(delay_ns=1_000_000, jitter_ns=40_000_000)),
    faults=(("loss 20% seed=331", "delay 5ms jitter 30ms seed=137"), ()),
    configs=(Config(), Config(window_scaling=False, timestamps=False)),
    talks=(
        Talk(at_ns=0, opener=1, port=101, plans=(Plan(writes=((0, 30_000),)), Plan())),
        Talk(
            at_ns=0,
            opener=0,
            port=17,
            plans=(Plan(writes=((0, 1_460),)), Plan(writes=((0, 25_000),), ending="abort")),
        ),
        Talk(at_ns=0, opener=1, port=17, plans=(Plan(writes=((500_000_000, 1_460),)), Plan(writes=((0, 1),)))),
        Talk(at_ns=1_000_000_000, opener=0, port=17, plans=(Plan(writes=((0, 4_000),)), Plan())),
        Talk(
            at_ns=1_000_000_000,
            opener=0,
            port=17,
            plans=(
                Plan(writes=((0, 700),), ending="abort"),
                Plan(writes=((500_000_000, 1_000),), ending="wait", paced=True),
            ),
            nobody=True,
        ),
    ),
    lasts_ns=3_750_000_000,
    attacks=(Attack(at_ns=229_000_001, host=1, kind="replay", seed=3_573_185_650),),
    accept_ns=3_000_000_000,
)

if __name__ == "__main__":
    raise SystemExit(show(CASE))
