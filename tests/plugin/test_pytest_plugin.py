"""The plugin: its fixtures, its marker, the report of a test that failed, and that nobody else notices it."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

import tcpstack
from tcpstack.device.faults import SYN, Drop, Loss
from tcpstack.testing.wires import seeded
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
    assert lines[:3] == ["seed:   7", "replay: pytest test_it.py::test_fails --tcp-seed=7", ""]
    assert "client 10.0.0.1" in section(result)
    gap = next(number for number, line in enumerate(lines) if re.fullmatch(r" +\(\d+ lines left out\)", line))
    assert len(lines[gap + 1 :]) == 40
    assert "───>" in "".join(lines[gap:])
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
    assert text.count("client 10.0.0.1") == 1
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


# The seed


def test_every_test_of_a_session_has_the_fresh_seed_and_sessions_differ(check: Check):
    source = "def test_a(tcp_seed): print(f'<{tcp_seed}>')\ndef test_b(tcp_seed): print(f'<{tcp_seed}>')"
    seeds = [re.findall(r"<(\d+)>", check(source, "-s").stdout.str()) for _ in range(2)]
    assert [len(each) for each in seeds] == [2, 2]
    assert [len(set(each)) for each in seeds] == [1, 1]
    assert seeds[0] != seeds[1]


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


def test_rules_in_words_draw_from_the_seed_unless_they_have_their_own():
    words = ["loss 2%", "loss 2%", "loss 2% seed=4", "drop syn", "delay 5ms", "delay 5ms jitter 1ms"]
    rules = seeded([*words, Drop(SYN), Loss(0.02)], 100)
    assert [rule.text for rule in rules] == [
        "loss 2% seed=100", "loss 2% seed=101", "loss 2% seed=4", "drop syn", "delay 5ms",
        "delay 5ms jitter 1ms seed=105", "drop syn", "loss 2% seed=0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ("tcp(1)", "the marker is tcp(seed=N*"),
        ("tcp(sead=1)", "the marker is tcp(seed=N*"),
        ("tcp(faults=['loss 2%'])", "faults= is for a test that has tcp_memory_streams or tcp_namespace or*"),
        ("tcp(line={})", "line= is for a test that has tcp_pair or tcp_streams"),
    ],
)
def test_mark_that_says_nothing_to_the_test_is_an_error(check: Check, mark, complaint):
    result = check(f"import pytest\n@pytest.mark.{mark}\ndef test_it(tcp_network): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*test_it.py::test_it: {complaint}"])


def test_wrong_rule_and_wrong_line_are_explained(check: Check):
    result = check("import pytest\n@pytest.mark.tcp(faults=['drop sin'])\ndef test_it(tcp_pair): pass")
    result.stdout.fnmatch_lines(["E *FaultRuleError: *", "E *^^^"])
    result = check("import pytest\n@pytest.mark.tcp(line={'length': '1m'})\ndef test_it(tcp_pair): pass")
    result.stdout.fnmatch_lines(["E *ValueError: a line has delay, jitter, rate and queue, not length"])


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
    seeds = set(re.findall(r"^seed:   (\d+)$", result.stdout.str(), re.MULTILINE))
    seeds |= set(re.findall(r"^tcpstack: the same again with --tcp-seed=(\d+)$", result.stdout.str(), re.MULTILINE))
    assert len(seeds) == 1
    assert "───>" in result.stdout.str()


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
