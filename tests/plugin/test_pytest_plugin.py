"""The plugin: its fixtures, its marker, the report of a test that failed, and that nobody else notices it."""

from __future__ import annotations

import asyncio
import importlib
import re
import secrets
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

import tcpstack
import tcpstack.aio.virtual
import tcpstack.pytest_plugin
from tcpstack.aio.virtual import Simulation
from tests.plugin.conftest import Check, section

ROOT = Path(tcpstack.__file__).parent.parent

FAILING = """
    import pytest

    @pytest.mark.tcp(faults=["loss 20%"], line={"delay": "10ms", "jitter": "5ms"})
    def test_fails(tcp_pair):
        tcp_pair.client.send(b"some text " * 2_000)
        tcp_pair.run(seconds=5)
        raise AssertionError(len(tcp_pair.server.received))
"""


# The report


def test_report_of_a_failing_test_has_the_seed_the_command_and_the_end_of_the_ladder(check: Check):
    result = check(FAILING, "--tcp-seed=7")
    result.assert_outcomes(failed=1)
    lines = section(result).splitlines()
    assert re.fullmatch(r"seed:   \d+", lines[0])
    assert lines[1:3] == ["replay: pytest test_it.py::test_fails --tcp-seed=7", ""]
    assert "client 10.0.0.1" in section(result)
    gap = next(number for number, line in enumerate(lines) if re.fullmatch(r" +\(\d+ lines left out\)", line))
    assert len(lines[gap + 1 :]) == 40
    assert "──>" in "".join(lines[gap:])
    result.stdout.fnmatch_lines(["tcpstack: the same again with --tcp-seed=7"])


def test_command_of_the_report_gives_the_identical_ladder_in_another_process(check: Check, pytester):
    first = section(check(FAILING, apart=True))
    command = re.search(r"^replay: pytest (\S+) (--tcp-seed=\d+)$", first, re.MULTILINE)
    assert command is not None
    again = pytester.runpytest_subprocess("-p", "tcpstack.pytest_plugin", "-p", "no:cacheprovider", *command.groups())
    assert section(again) == first
    assert section(check(FAILING, "--tcp-seed=7")) != section(check(FAILING, "--tcp-seed=8"))


def test_asyncio_in_virtual_time_replays_as_well(check: Check):
    source = """
        import asyncio, pytest

        @pytest.mark.tcp(faults=["loss 10%", "reorder 10%"], line={"delay": "10ms", "jitter": "5ms"})
        def test_fails(tcp_streams):
            async def send():
                tcp_streams.client.writer.write(bytes(30_000))
                await asyncio.sleep(10)

            tcp_streams.run(send())
            pytest.fail("as it should")
    """
    ladders = [section(check(source, "--tcp-seed=3", apart=apart)) for apart in (True, False)]
    assert ladders[0] == ladders[1]
    assert "ESTABLISHED" in ladders[0]


def test_command_is_for_the_directory_that_pytest_was_started_in_and_quoted_for_the_shell(check: Check, pytester):
    inner = pytester.mkdir("inner")
    pytester.makefile(".ini", pytest="[pytest]")
    pytester.path.joinpath("inner", "test_in.py").write_text(
        "import pytest\n@pytest.mark.parametrize('word', ['a b'])\ndef test_it(tcp_seed, word): assert not word\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inner)
        result = check("", "--tcp-seed=5", "test_in.py")
    assert "replay: pytest 'test_in.py::test_it[a b]' --tcp-seed=5" in section(result)


def test_fault_at_either_end_shows_in_the_one_ladder(check: Check):
    source = """
        def test_fails(tcp_network):
            a = tcp_network.host("a", "10.0.0.1/24", faults=["drop syn nth=1"])
            b = tcp_network.host("b", "10.0.0.2/24", faults=["drop synack nth=1", "drop ack nth=1"])
            tcp_network.link(a, b)
            b.listen(80)
            a.connect(b.stack.addresses[0].ip.packed, 80).user = "me"
            a.notify = b.notify = lambda connection, mask: None
            tcp_network.run(seconds=20)
            assert 0
    """
    text = section(check(source))
    assert text.count("a 10.0.0.1") == 1
    for rule in ("drop syn nth=1", "drop synack nth=1", "drop ack nth=1"):
        assert text.count(rule) == 1


def test_connection_that_never_comes_about_is_an_error_with_its_ladder(check: Check):
    source = """
        import pytest

        @pytest.mark.tcp(faults=["blackhole"])
        def test_it(tcp_pair):
            pass
    """
    result = check(source)
    result.assert_outcomes(errors=1)
    assert "blackhole" in section(result)
    result.stdout.fnmatch_lines(["E * TimeoutError: *"])


def test_passing_test_says_nothing_but_the_seed_of_the_session(check: Check):
    result = check("def test_it(tcp_pair): tcp_pair.run(seconds=1)")
    result.assert_outcomes(passed=1)
    assert result.stdout.str().count("tcpstack") == 1
    result.stdout.re_match_lines([r"tcpstack: the same again with --tcp-seed=\d+$"])


FAILING_RUNS = """
    import asyncio, uuid

    def test_error_of_a_program(tcp_simulation):
        async def program():
            await asyncio.sleep(1)
            inner()

        def inner():
            raise KeyError("mine")

        tcp_simulation.host("a", "10.0.0.1/24").run(program())

    def test_refusal(tcp_simulation):
        async def program():
            uuid.uuid4()

        tcp_simulation.run(program())

    def test_deadlock(tcp_simulation):
        tcp_simulation.run(asyncio.Event().wait())

    def test_connection(tcp_simulation):
        async def program():
            await asyncio.open_connection("b", 80)

        a, b = tcp_simulation.host("a", "10.0.0.1/24"), tcp_simulation.host("b", "10.0.0.2/24")
        tcp_simulation.link(a, b)
        a.run(program())

    def test_wrong_rule(tcp_simulation):
        tcp_simulation.host("a", "10.0.0.1/24", faults=["lose 2%"])

    def test_wrong_rule_without_asyncio(tcp_network):
        tcp_network.host("a", "10.0.0.1/24", faults=["lose 2%"])

    def test_without_fixture():
        from tcpstack import Simulation
        Simulation().run(asyncio.Event().wait())
"""


def test_report_shows_the_test_and_the_program_and_not_what_runs_them(check: Check):
    result = check(FAILING_RUNS)
    result.assert_outcomes(failed=7)
    text = result.stdout.str()
    assert text.count("test_it.py:") >= 9
    assert re.findall(r"(?:tcpstack|asyncio)/\w+(?:/\w+)?\.py:\d+", text) == []
    for shown in ('raise KeyError("mine")', "uuid.uuid4()", 'open_connection("b", 80)', "DeadlockError: nothing"):
        assert shown in text
    assert not any(hasattr(module, "__tracebackhide__") for module in (asyncio.runners, tcpstack.aio.virtual))
    whole = check(FAILING_RUNS, "--full-trace").stdout.str()
    assert "asyncio/runners.py" in whole
    assert "aio/virtual.py" in whole


def test_error_that_is_tcpstacks_own_fault_is_shown_whole(check: Check):
    result = check("def test_it(tcp_simulation): tcp_simulation.link(None, None)")
    result.stdout.fnmatch_lines(["*aio/virtual.py:*: AttributeError"])


# The seed


SEEDS = """
    import pytest

    def test_a(tcp_seed): print(f'<{tcp_seed}>')

    @pytest.mark.parametrize('number', range(3))
    def test_b(tcp_seed, number): print(f'<{tcp_seed}>')

    class TestC:
        def test_a(self, tcp_seed): print(f'<{tcp_seed}>')
"""


def test_each_test_draws_its_seed_from_the_sessions_fresh_one(check: Check):
    sessions = [re.findall(r"<(\d+)>", check(SEEDS, "-s").stdout.str()) for _ in range(2)]
    assert [len(set(each)) for each in sessions] == [5, 5]
    assert not set(sessions[0]) & set(sessions[1])


def test_seed_of_a_test_hangs_on_its_name_and_not_on_where_pytest_is_started(check: Check, pytester):
    whole = re.findall(r"<(\d+)>", check(SEEDS, "-s", "--tcp-seed=7").stdout.str())
    alone = check(SEEDS, "-s", "--tcp-seed=7", "test_it.py::test_b[1]")
    assert re.findall(r"<(\d+)>", alone.stdout.str()) == [whole[2]]
    inner = pytester.mkdir("inner")
    pytester.path.joinpath("test_it.py").rename(inner / "test_it.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inner)
        there = pytester.runpytest_inprocess("-s", "--tcp-seed=7", "test_it.py", plugins=[tcpstack.pytest_plugin])
    assert re.findall(r"<(\d+)>", there.stdout.str()) == whole


@pytest.mark.parametrize("seed", ["-4", "abc", "1.5", "9" * 20, ""])
def test_seed_that_is_none_is_told_before_any_test(check: Check, seed):
    result = check("def test_it(): pass", f"--tcp-seed={seed}", apart=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--tcp-seed: a seed is a whole number from 0 to 1000000000000000, not '{seed}'"])


def test_junit_report_has_the_seeds_the_command_and_the_ladder(check: Check, pytester):
    check(FAILING, "--tcp-seed=7", "--junitxml=report.xml")
    report = pytester.path.joinpath("report.xml").read_text()
    assert '<property name="tcp_session_seed" value="7" />' in report
    assert '<property name="tcp_seed" value=' in report
    assert "replay: pytest test_it.py::test_fails --tcp-seed=7" in report
    assert "ESTABLISHED" in report


def test_marks_seed_is_the_tests_own_and_the_closest_mark_wins(check: Check):
    source = """
        import pytest

        @pytest.mark.tcp(seed=1, faults="drop syn nth=1")
        class TestAll:
            def test_class(self, tcp_seed, tcp_pair):
                assert tcp_seed == tcp_pair.network.seed == 1

            @pytest.mark.tcp(seed=2)
            def test_own(self, tcp_seed, tcp_pair):
                assert tcp_seed == tcp_pair.network.seed == 2
                assert tcp_pair.network.clock.now_ns >= 2_000_000_000  # a second for the lost SYN
    """
    check(source, "--tcp-seed=9").assert_outcomes(passed=2)


SIGNATURE = "the marker is tcp(seed=N, faults=[RULE, ...], line={'delay': '20ms', ...}, urandom='seeded')"


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ("tcp(1)", f"{SIGNATURE}, without 1 by itself"),
        ("tcp(sead=1)", f"{SIGNATURE}, without sead="),
        ("tcp(seed='x')", "seed= is a whole number from 0 to 1000000000000000, not 'x'"),
        ("tcp(seed=-1)", "seed= is a whole number from 0 to 1000000000000000, not -1"),
        (
            "tcp(faults=['loss 2%'])",
            "faults= is for a test that has tcp_memory_streams or tcp_namespace or tcp_pair or tcp_streams",
        ),
        ("tcp(urandom='seeded')", "urandom= is for a test that has tcp_simulation or tcp_streams"),
        ("tcp(line={})", "line= is for a test that has tcp_pair or tcp_streams"),
    ],
)
def test_mark_that_says_nothing_to_the_test_is_an_error(check: Check, mark, complaint):
    result = check(f"import pytest\n@pytest.mark.{mark}\ndef test_it(tcp_network): pass")
    result.assert_outcomes(errors=1)
    assert f"_\n{complaint}\n" in result.stdout.str()


def test_word_that_says_nothing_of_randomness_is_an_error(check: Check):
    result = check("import pytest\n@pytest.mark.tcp(urandom='yes')\ndef test_it(tcp_simulation): pass")
    result.assert_outcomes(errors=1)
    assert "urandom= is 'refused' or 'seeded', not 'yes'" in result.stdout.str()


def test_mark_of_a_class_or_a_module_is_for_those_of_its_tests_that_can_use_it(check: Check):
    source = """
        import pytest

        pytestmark = pytest.mark.tcp(line={"delay": "1s"}, seed=5)

        @pytest.mark.tcp(faults=["drop syn nth=1"])
        class TestAll:
            def test_seed(self, tcp_seed):
                assert tcp_seed == 5

            def test_network(self, tcp_network, tcp_simulation):
                assert tcp_network.seed == 5

            def test_memory(self, tcp_memory_streams):
                pass

            def test_pair(self, tcp_pair):
                assert tcp_pair.network.clock.now_ns >= 4_000_000_000
    """
    check(source).assert_outcomes(passed=4)
    misspelt = source.replace("faults=[", "fautls=[")
    check(misspelt).assert_outcomes(errors=4)


def test_wrong_rule_and_wrong_line_are_explained(check: Check):
    result = check("import pytest\n@pytest.mark.tcp(faults=['drop sin'])\ndef test_it(tcp_pair): pass")
    result.stdout.re_match_lines(
        [
            "_+ ERROR at setup of test_it _+",
            "drop takes syn, synack, ack, data, fin, rst or any, not 'sin'",
            "  drop sin",
            r"       \^\^\^",
            "-+ tcpstack -+",
        ],
        consecutive=True,
    )
    result = check("import pytest\n@pytest.mark.tcp(line={'length': '1m'})\ndef test_it(tcp_pair): pass")
    result.stdout.fnmatch_lines(["a line has delay, jitter, rate, queue and mark, not length; *"])
    result = check("import pytest\n@pytest.mark.tcp(line='20ms')\ndef test_it(tcp_pair): pass")
    result.stdout.fnmatch_lines(["a line is said in words such as {'delay': '20ms'}*; not '20ms'"])
    result = check("import pytest\n@pytest.mark.tcp(faults=[3])\ndef test_it(tcp_pair): pass")
    result.stdout.fnmatch_lines(["a fault is a rule or its text", "  3"])


@pytest.mark.parametrize("fixture", ["tcp_simulation", "tcp_network"])
def test_wrong_rule_of_a_host_is_told_with_the_line_of_the_test_alone(check: Check, fixture):
    result = check(f"def test_it({fixture}):\n    {fixture}.host('a', '10.0.0.1/24', faults=['loss 1%', 'lost 2%'])")
    result.stdout.re_match_lines(
        [
            "_+ test_it _+",
            "",
            f"{fixture} = .*",
            "",
            "    .*",
            ">.*faults=.*",
            "E .*FaultRuleError: there is no rule 'lost' .*: it is drop, loss, .*",
            "E +lost 2%",
            r"E +\^\^\^\^",
            "",
            "test_it.py:2: FaultRuleError",
        ],
        consecutive=True,
    )


@pytest.mark.tcp(line={"rate": "1mbit", "queue": "64kB", "mark": "30kB"})
def test_line_of_the_mark_has_all_the_words_of_a_link(tcp_pair):
    tcp_pair.client.send(bytes(10_000))
    assert tcp_pair.run_until(lambda: len(tcp_pair.server.received) == 10_000, seconds=5)


@pytest.mark.parametrize("fixture", ["tcp_streams", "tcp_simulation"])
def test_coroutine_with_a_fixture_in_virtual_time_is_told_what_to_do(check: Check, fixture):
    settings = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    source = f"async def test_it({fixture}): pass"
    result = check(source, *settings, apart=True, plugins=("pytest_asyncio.plugin",))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"{fixture} is in virtual time, *: make the test a plain*"])


def test_program_that_waits_beside_a_heartbeat_is_found_out(check: Check):
    source = """
        import asyncio

        def test_it(tcp_simulation):
            async def heartbeat():
                while True:
                    await asyncio.sleep(60)

            async def program():
                await asyncio.Event().wait()

            tcp_simulation.spawn(heartbeat())
            tcp_simulation.run(program())
    """
    result = check(source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *TimeoutError: *not finished after 86400 s*", "E *program waits *for Event.wait*"])


# The fixtures


def test_pair_is_connected_reads_and_ends(tcp_pair):
    client, server = tcp_pair.client, tcp_pair.server
    client.send(b"question")
    assert tcp_pair.run_until(lambda: server.received == b"question", seconds=1)
    server.send(b"answer")
    server.close()
    tcp_pair.run(seconds=1)
    assert (client.received, client.eof, client.error) == (b"answer", True, None)
    client.close()
    tcp_pair.run()
    assert client.host.stack.connections == server.host.stack.connections == ()


def test_slow_reader_closes_the_window_and_opens_it_again(tcp_pair):
    text = bytes(2_000_000)
    tcp_pair.server.pause_reading()
    tcp_pair.client.send(text)
    tcp_pair.client.shutdown()
    tcp_pair.run(seconds=5)
    assert tcp_pair.server.received == b""
    assert tcp_pair.client.connection.unsent_bytes > 0
    tcp_pair.server.resume_reading()
    tcp_pair.run(seconds=60)
    assert tcp_pair.server.received == text
    assert tcp_pair.server.eof


def test_abort_is_the_other_ends_error(tcp_pair):
    tcp_pair.client.abort()
    tcp_pair.run(seconds=1)
    assert isinstance(tcp_pair.server.error, ConnectionResetError)


@pytest.mark.tcp(line={"delay": "250ms"})
def test_line_of_the_mark_is_between_the_hosts(tcp_streams):
    async def ask() -> float:
        loop = tcp_streams.simulation.loop
        began = loop.time()
        tcp_streams.client.writer.write(b"x")
        await tcp_streams.client.reader.readexactly(1)
        return loop.time() - began

    async def answer() -> None:
        tcp_streams.server.writer.write(await tcp_streams.server.reader.readexactly(1))

    seconds, _ = tcp_streams.run(ask(), answer())
    assert seconds == pytest.approx(0.5)


def test_simulation_is_closed_after_the_test(check: Check):
    source = """
        kept = []

        def test_it(tcp_simulation):
            kept.append(tcp_simulation)

        def test_after():
            assert kept[0].loop.is_closed()
    """
    check(source).assert_outcomes(passed=2)


@pytest.mark.tcp(faults=["drop data nth=1"])
async def test_memory_streams_are_connected_on_the_running_loop(tcp_memory_streams):
    async with tcp_memory_streams() as pair:
        pair.client.writer.write(b"question\n")
        assert await pair.server.reader.readline() == b"question\n"
        assert pair.client.host.device.hits == {"drop data nth=1": 1}


def test_memory_streams_without_asyncio_say_what_they_need(tcp_memory_streams):
    """As trio would enter them."""
    with pytest.raises(RuntimeError, match=r"need an event loop of asyncio, and none runs here: with anyio .* asyncio"):
        tcp_memory_streams().__aenter__().send(None)


@pytest.mark.tcp(urandom="seeded", seed=3)
def test_randomness_of_the_system_comes_from_the_seed_of_the_test(tcp_streams):
    async def draw() -> bytes:
        return secrets.token_bytes(8)

    first = tcp_streams.run(draw())
    with Simulation(3, urandom="seeded") as again:
        assert again.run(draw()) == first


@pytest.mark.kernel
async def test_namespace_has_the_stack_and_programs_beside_it(tcp_namespace):
    async with tcp_namespace.open_stack() as stack:
        await stack.start_server(lambda reader, writer: (writer.write(b"hello"), writer.close()), port=80)
        done = await tcp_namespace.run("nc", "-N", tcp_namespace.stack_address, "80")
    assert (done.returncode, done.stdout) == (0, b"hello")


@pytest.mark.kernel
async def test_program_in_the_namespace_that_takes_too_long_is_ended(tcp_namespace):
    with pytest.raises(TimeoutError, match=r"sleep 60 took more than 0\.1 s; it wrote b'' and b''"):
        await tcp_namespace.run("sleep", "60", timeout=0.1)


def test_namespace_that_cannot_be_had_skips_with_the_reason_and_the_remedy(check: Check, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    result = check("def test_it(tcp_namespace): pass", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*tcp_namespace: there is no program unshare: install the package util-linux"])


# Beside others


def test_async_tests_work_with_pytest_asyncio_and_plain_ones_without(check: Check):
    plain = """
        import asyncio

        def test_memory(tcp_memory_streams):
            async def program():
                async with tcp_memory_streams() as pair:
                    pair.client.writer.write(b"x")
                    assert await pair.server.reader.read(1) == b"x"

            asyncio.run(program())

        def test_virtual(tcp_streams):
            tcp_streams.run(asyncio.sleep(3600))
    """
    check(plain, apart=True).assert_outcomes(passed=2)
    with_asyncio = """
        async def test_async(tcp_memory_streams):
            async with tcp_memory_streams() as pair:
                pair.client.writer.write(b"x")
                assert await pair.server.reader.read(1) == b"x"
    """
    settings = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    result = check(f"{plain}{with_asyncio}", *settings, apart=True, plugins=("pytest_asyncio.plugin",))
    result.assert_outcomes(passed=3)


def test_under_xdist_all_workers_have_one_seed_and_the_report_reaches_the_terminal(check: Check):
    pytest.importorskip("xdist")
    source = f"{FAILING}\n    def test_also_fails(tcp_seed):\n        assert tcp_seed is None\n"
    result = check(source, "-n2", apart=True, plugins=("xdist",))
    result.assert_outcomes(failed=2)
    seeds = set(re.findall(r"^replay: .* --tcp-seed=(\d+)$", result.stdout.str(), re.MULTILINE))
    seeds |= set(re.findall(r"^tcpstack: the same again with --tcp-seed=(\d+)$", result.stdout.str(), re.MULTILINE))
    assert len(seeds) == 1
    assert "──>" in result.stdout.str()


def test_replay_line_does_not_have_the_group_of_xdist(check: Check):
    pytest.importorskip("xdist")
    source = """
        import pytest

        @pytest.mark.xdist_group("all")
        class TestGroup:
            @pytest.mark.parametrize("what", ["this", "that"])
            def test_it(self, tcp_streams, what):
                assert what == "this"
    """
    result = check(source, "-n1", "--dist=loadgroup", apart=True, plugins=("xdist",))
    (replay,) = re.findall(r"^replay: pytest (.*) --tcp-seed=\d+$", result.stdout.str(), re.MULTILINE)
    assert replay == "'test_it.py::TestGroup::test_it[that]'"
    again = check(source, *shlex.split(replay), apart=True, plugins=("xdist",))
    again.assert_outcomes(failed=1)


def test_suite_that_does_not_use_it_loads_nothing_and_sees_nothing(check: Check):
    source = """
        import sys

        def test_it():
            assert {name for name in sys.modules if name.startswith("tcpstack")} == {
                "tcpstack", "tcpstack.pytest_plugin",
            }
            assert not {"asyncio", "dpkt", "pyroute2"} & set(sys.modules)
    """
    result = check(source, apart=True)
    result.assert_outcomes(passed=1)
    assert "tcpstack" not in result.stdout.str()


def test_package_announces_the_plugin_to_pytest():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plugin = importlib.import_module(project["entry-points"]["pytest11"]["tcpstack"])
    assert plugin is sys.modules["tcpstack.pytest_plugin"]
    assert any(each.startswith("pytest") for each in project["optional-dependencies"]["pytest"])
