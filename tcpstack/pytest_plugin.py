"""The pytest plugin: networks, connected pairs and namespaces as fixtures, and a report that says how to replay.

    def test_answer_survives_a_lost_syn(tcp_pair):
        ...

    @pytest.mark.tcp(faults=["loss 2%"], line={"delay": "20ms"}, seed=7)
    def test_...

All chance in the fixtures comes from one seed, `--tcp-seed`, a fresh one for each session; each test draws its own from
that and from its name. The report of a test that failed has the seed, the command that replays it, and the last
segments as a ladder. Whatever is not pytest's is
imported by the fixtures that need it. docs/testing.md has an example of each.
"""

from __future__ import annotations

import argparse
import inspect
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import pytest
from _pytest._code.code import ExceptionRepr

if TYPE_CHECKING:
    from .aio.virtual import Simulation
    from .core.events import Tracer
    from .device.faults import Rule
    from .device.pipe import Line
    from .sim.network import Network
    from .testing.namespace import StackNamespace
    from .testing.pair import ConnectedPair
    from .testing.streams import StreamPair, VirtualStreamPair

    MemoryStreams: TypeAlias = Callable[[], AbstractAsyncContextManager[StreamPair]]

_SIGNATURE = "tcp(seed=N, faults=[RULE, ...], line={'delay': '20ms', ...}, urandom='seeded')"
_MARKER = (
    f"{_SIGNATURE}: for tcpstack's fixtures: the seed of this test, what goes wrong with the client's (or the stack's)"
    " packets, the link between the simulated hosts, and whether os.urandom draws from the seed"
)
_FRESH_SEEDS = 1_000_000  # few digits are easily copied
_MOST_SEED = 10**15
_WITHIN_S = 24 * 3600.0
"""Virtual time that a run of a simulation has where the test says nothing: beside a program whose timers go off for
ever, one that waits for nothing would never be found out."""
_TAKERS = {
    "faults": ("tcp_memory_streams", "tcp_namespace", "tcp_pair", "tcp_streams"),
    "line": ("tcp_pair", "tcp_streams"),
    "urandom": ("tcp_simulation", "tcp_streams"),
}
"""The fixtures that each word of the mark is for; the seed is for all."""
_LAST_LINES = 40
"""How much of the ladders is in a report."""


def _read_seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST_SEED):
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 to {_MOST_SEED}, not {text!r}")
    return int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("tcpstack").addoption(
        "--tcp-seed",
        type=_read_seed,
        metavar="SEED",
        help="where all chance in tcpstack's fixtures comes from (default: a fresh one, printed at the end)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    workerinput = getattr(config, "workerinput", None)  # of an xdist worker
    if workerinput is not None:
        config.option.tcp_seed = workerinput["tcp_seed"]
    elif config.option.tcp_seed is None:
        config.option.tcp_seed = secrets.randbelow(_FRESH_SEEDS)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist starts a worker: it has the session's seed."""
    node.workerinput["tcp_seed"] = node.config.option.tcp_seed


class _Run:
    """One test's run with these fixtures: its marks, and what is to be said should it fail.

    seed     the test's own, of the mark or drawn from the session's and the test's name
    ladders  what was on the wire; each is given by how many of its last lines at the most
    """

    def __init__(self, item: pytest.Item) -> None:
        self.ladders: list[Callable[[int], str]] = []
        self._item = item
        self._marks = self._read_marks()
        self._session_seed: int = item.config.option.tcp_seed
        self.seed: int = self._marks.get("seed", self._draw_seed())
        if "seed" not in self._marks:
            item.user_properties.append(("tcp_session_seed", self._session_seed))
        item.user_properties.append(("tcp_seed", self.seed))

    def _read_marks(self) -> dict[str, Any]:
        """What the marks say; those of a class or a module go without what is for none of this test's fixtures."""
        fixtures = set(getattr(self._item, "fixturenames", ()))
        marks: dict[str, Any] = {}
        for node, marker in self._item.iter_markers_with_node("tcp"):  # the closest first
            if marker.args:
                self._complain(f"the marker is {_SIGNATURE}, without {marker.args[0]!r} by itself")
            for name, value in marker.kwargs.items():
                takers = _TAKERS.get(name)
                if name != "seed" and takers is None:
                    self._complain(f"the marker is {_SIGNATURE}, without {name}=")
                if takers is None or fixtures & set(takers):
                    marks.setdefault(name, value)
                elif node is self._item:
                    self._complain(f"{name}= is for a test that has {' or '.join(takers)}")
        seed = marks.get("seed", 0)
        if type(seed) is not int or not 0 <= seed <= _MOST_SEED:
            self._complain(f"seed= is a whole number from 0 to {_MOST_SEED}, not {seed!r}")
        urandom = marks.get("urandom", "refused")
        if urandom not in ("refused", "seeded"):
            self._complain(f"urandom= is 'refused' or 'seeded', not {urandom!r}")
        return marks

    def _draw_seed(self) -> int:
        """Tests, and parameter sets of one test, are to meet different chance. The name is without directories, which
        hang on where pytest was started."""
        from random import Random

        return Random(f"{self._session_seed} {self._item.path.name} {self._item.location[2]}").randrange(_FRESH_SEEDS)

    def _complain(self, problem: str) -> NoReturn:
        raise pytest.fail.Exception(problem, pytrace=False) from None  # it is the test's words that are wrong

    def check_plain(self, fixture: str) -> None:
        """Fail where the test is a coroutine: it would be on an event loop already."""
        if inspect.iscoroutinefunction(getattr(self._item, "function", None)):
            self._complain(
                f"{fixture} is in virtual time, on an event loop of its own: make the test a plain function, and run"
                " coroutines by the fixture's run(); tcp_memory_streams is for coroutines"
            )

    def record(self, us: str, peer: str) -> Tracer:
        """A tracer for one end, that a ladder of the report comes from."""
        from .observe.ladder import Ladder
        from .observe.recording import Recording

        recording = Recording(Ladder(us=us, peer=peer))
        self.ladders.append(lambda lines: recording.render(last_lines=lines))
        return recording

    def faults(self, host: str) -> list[Rule]:
        """The mark's rules, which act at this host."""
        from .device.fault_lists import rules_of
        from .device.faults import FaultRuleError

        try:
            return rules_of(self._marks.get("faults", ()), self.seed, host)
        except FaultRuleError as error:
            self._complain(str(error))

    def line(self) -> Line:
        from .testing.wires import as_line

        try:
            return as_line(self._marks.get("line"))
        except ValueError as error:
            self._complain(str(error))

    def urandom(self) -> Literal["refused", "seeded"]:
        return "seeded" if self._marks.get("urandom") == "seeded" else "refused"

    def report(self) -> str:
        """The section of a failure's report."""
        path = os.path.relpath(self._item.path, self._item.config.invocation_params.dir)
        # Not from the nodeid, to which xdist's loadgroup appends the group.
        names = [node.name for node in self._item.listchain() if isinstance(node, (pytest.Class, pytest.Item))]
        test = "::".join([path, *names])
        lines = [f"seed:   {self.seed}", f"replay: pytest {shlex.quote(test)} --tcp-seed={self._session_seed}"]
        for ladder in self.ladders:
            lines += ["", ladder(_LAST_LINES)]
        return "\n".join(lines)


_RUN = pytest.StashKey[_Run]()


def _run(request: pytest.FixtureRequest) -> _Run:
    item = request.node
    assert isinstance(item, pytest.Item)
    if _RUN not in item.stash:
        item.stash[_RUN] = _Run(item)
    return item.stash[_RUN]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if call.excinfo is not None and "tcpstack.sim.network" in sys.modules:
        from .testing.hidden_frames import machinery_hidden

        with machinery_hidden(call.excinfo.value):
            report = yield
    else:
        report = yield
    run = item.stash.get(_RUN, None)
    if run is not None and report.failed:
        if isinstance(report.longrepr, ExceptionRepr):
            report.longrepr.addsection("tcpstack", run.report(), "-")  # so that --junitxml has it as well
        else:
            report.sections.append(("tcpstack", run.report()))
    if run is not None and call.when == "teardown":
        run.ladders.clear()
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    drawn = ("tcp_session_seed", config.option.tcp_seed)
    reports = (report for kind in terminalreporter.stats.values() for report in kind)
    if any(drawn in map(tuple, getattr(report, "user_properties", ())) for report in reports):
        terminalreporter.write_line(f"tcpstack: the same again with --tcp-seed={config.option.tcp_seed}")


@pytest.fixture
def tcp_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test, for chance of its own."""
    return _run(request).seed


@pytest.fixture
def tcp_network(request: pytest.FixtureRequest) -> Network:
    """An empty simulated network (tcpstack.sim.network.Network), without asyncio: make hosts and links, and let time
    pass."""
    from .sim.network import Network

    run = _run(request)
    network = Network(run.seed, ladder=True)
    run.ladders.append(lambda lines: network.ladder(last_lines=lines))
    return network


@pytest.fixture
def tcp_pair(request: pytest.FixtureRequest, tcp_network: Network) -> ConnectedPair:
    """Two hosts in `tcp_network`, joined and connected (tcpstack.testing.pair.ConnectedPair)."""
    from .testing.pair import connect

    run = _run(request)
    return connect(tcp_network, run.line(), run.faults("client"))


@pytest.fixture
def tcp_simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """An empty simulation (tcpstack.Simulation) for programs of asyncio in virtual time. The test is a plain function:
    host.run(program()) has the loop."""
    from .aio.virtual import Simulation

    run = _run(request)
    run.check_plain("tcp_streams" if "tcp_streams" in request.fixturenames else "tcp_simulation")
    with Simulation(run.seed, ladder=True, within_s=_WITHIN_S, urandom=run.urandom()) as simulation:
        run.ladders.append(lambda lines: simulation.ladder(last_lines=lines))
        yield simulation


@pytest.fixture
def tcp_streams(request: pytest.FixtureRequest, tcp_simulation: Simulation) -> VirtualStreamPair:
    """Two hosts in `tcp_simulation`, joined and connected, with asyncio's streams at either end
    (tcpstack.testing.streams.VirtualStreamPair)."""
    from .testing.streams import connect_virtual

    run = _run(request)
    return connect_virtual(tcp_simulation, run.line(), run.faults("client"))


@pytest.fixture
def tcp_memory_streams(request: pytest.FixtureRequest) -> MemoryStreams:
    """`async with tcp_memory_streams() as pair`: as `tcp_streams`, but on the loop that runs, in real time
    (tcpstack.testing.streams.StreamPair)."""
    from .testing.streams import connect_in_memory

    run = _run(request)
    faults = run.faults("client")
    return lambda: connect_in_memory(run.seed, faults, run.record("client", "server"))


@pytest.fixture
def tcp_namespace(request: pytest.FixtureRequest) -> Iterator[StackNamespace]:
    """A network namespace with a TUN device (tcpstack.testing.namespace.StackNamespace): `open_stack` puts the stack
    on it, `run` runs programs beside it. Skips the test where no namespace can be had."""
    from .device.namespace import NamespaceError
    from .testing.namespace import StackNamespace

    run = _run(request)
    faults = run.faults("tcpstack")
    try:
        opened = StackNamespace(run.seed, faults, run.record("tcpstack", "kernel"))
    except NamespaceError as error:
        pytest.skip(f"tcp_namespace: {error.strerror or error}")
    with opened:
        yield opened
