"""The pytest plugin: networks, connected pairs and namespaces as fixtures, and a report that says how to replay.

    def test_answer_survives_a_lost_syn(tcp_pair):
        ...

    @pytest.mark.tcp(faults=["loss 2%"], line={"delay": "20ms"}, seed=7)
    def test_...

All chance in the fixtures comes from one seed, `--tcp-seed`, a fresh one for each session. The report of a test that
failed has the seed, the command that replays it, and the last segments as a ladder. Whatever is not pytest's is
imported by the fixtures that need it. docs/testing.md has an example of each.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from .aio.virtual import Simulation
    from .device.faults import Rule
    from .device.pipe import Line
    from .sim.network import Network
    from .testing.namespace import StackNamespace
    from .testing.pair import ConnectedPair
    from .testing.recording import Recording
    from .testing.streams import StreamPair, VirtualStreamPair

    MemoryStreams: TypeAlias = Callable[[], AbstractAsyncContextManager[StreamPair]]

_MARKER = (
    "tcp(seed=N, faults=[RULE, ...], line={'delay': '20ms', ...}): for tcpstack's fixtures: the seed of this test, what"
    " goes wrong with the client's (or the stack's) packets, and the link between the simulated hosts"
)
_FRESH_SEEDS = 1_000_000  # few digits are easily copied
_TAKES_LINE = frozenset({"tcp_pair", "tcp_streams"})
_TAKES_FAULTS = _TAKES_LINE | {"tcp_memory_streams", "tcp_namespace"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("tcpstack").addoption(
        "--tcp-seed",
        type=int,
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
    """One test's run with these fixtures: its marks, and what is to be said should it fail."""

    def __init__(self, item: pytest.Item) -> None:
        marks: dict[str, Any] = {}
        for marker in item.iter_markers("tcp"):  # the closest first
            marks = {**marker.kwargs, **marks}
            if marker.args or marks.keys() - {"seed", "faults", "line"}:
                raise pytest.UsageError(f"{item.nodeid}: the marker is {_MARKER.partition(': ')[0]}")
        fixtures = set(getattr(item, "fixturenames", ()))
        for name, takers in (("faults", _TAKES_FAULTS), ("line", _TAKES_LINE)):
            if name in marks and not takers & fixtures:
                raise pytest.UsageError(f"{item.nodeid}: {name}= is for a test that has {' or '.join(sorted(takers))}")
        self.seed: int = marks.get("seed", item.config.option.tcp_seed)
        self.recording: Recording | None = None
        self._faults = marks.get("faults", ())
        self._line = marks.get("line")
        self._item = item
        item.user_properties.append(("tcp_seed", self.seed))

    def record(self, us: str = "client", peer: str = "server") -> Recording:
        """The tracer that the report's ladder comes from."""
        from .testing.recording import Recording

        if self.recording is None:
            self.recording = Recording(us=us, peer=peer)
        return self.recording

    def faults(self) -> list[Rule]:
        from .testing.wires import seeded

        return seeded([self._faults] if isinstance(self._faults, str) else self._faults, self.seed)

    def line(self) -> Line:
        from .testing.wires import as_line

        return as_line(self._line)

    def report(self) -> str:
        """The section of a failure's report."""
        path = os.path.relpath(self._item.path, self._item.config.invocation_params.dir)
        test = path + "::" + self._item.nodeid.partition("::")[2]
        lines = [f"seed:   {self.seed}", f"replay: pytest {shlex.quote(test)} --tcp-seed={self.seed}"]
        if self.recording is not None:
            lines += ["", self.recording.render() or "no segment was sent"]
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
    report = yield
    run = item.stash.get(_RUN, None)
    if run is not None and report.failed:
        report.sections.append(("tcpstack", run.report()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    drawn = ("tcp_seed", config.option.tcp_seed)
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
    return Network(run.seed, tracer=run.record())


@pytest.fixture
def tcp_pair(request: pytest.FixtureRequest, tcp_network: Network) -> ConnectedPair:
    """Two hosts in `tcp_network`, joined and connected (tcpstack.testing.pair.ConnectedPair)."""
    from .testing.pair import connect

    run = _run(request)
    return connect(tcp_network, run.line(), run.faults())


@pytest.fixture
def tcp_simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """An empty simulation (tcpstack.Simulation) for programs of asyncio in virtual time. The test is a plain function:
    host.run(program()) has the loop."""
    from .aio.virtual import Simulation

    run = _run(request)
    with Simulation(run.seed, tracer=run.record()) as simulation:
        yield simulation


@pytest.fixture
def tcp_streams(request: pytest.FixtureRequest, tcp_simulation: Simulation) -> VirtualStreamPair:
    """Two hosts in `tcp_simulation`, joined and connected, with asyncio's streams at either end
    (tcpstack.testing.streams.VirtualStreamPair)."""
    from .testing.streams import connect_virtual

    run = _run(request)
    return connect_virtual(tcp_simulation, run.line(), run.faults())


@pytest.fixture
def tcp_memory_streams(request: pytest.FixtureRequest) -> MemoryStreams:
    """`async with tcp_memory_streams() as pair`: as `tcp_streams`, but on the loop that runs, in real time
    (tcpstack.testing.streams.StreamPair)."""
    from .testing.streams import connect_in_memory

    run = _run(request)
    return lambda: connect_in_memory(run.seed, run.faults(), run.record())


@pytest.fixture
def tcp_namespace(request: pytest.FixtureRequest) -> Iterator[StackNamespace]:
    """A network namespace with a TUN device (tcpstack.testing.namespace.StackNamespace): `open_stack` puts the stack
    on it, `run` runs programs beside it. Skips the test where no namespace can be had."""
    from .device.namespace import NamespaceError
    from .testing.namespace import StackNamespace

    run = _run(request)
    try:
        opened = StackNamespace(run.seed, run.faults(), run.record("tcpstack", "kernel"))
    except NamespaceError as error:
        pytest.skip(f"tcp_namespace: {error.strerror or error}")
    with opened:
        yield opened
