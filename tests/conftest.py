"""Asynchronous tests run on both event loops; tests that need the kernel say so when they can't have it."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Generator
from typing import Any

import pytest
import uvloop
from hypothesis import settings

from tcpstack import pytest_plugin
from tcpstack.device.namespace import Namespace, NamespaceError

pytest_plugins = ["pytester"]

UNDIVIDED = {
    "tests/kernel/test_bench_smoke.py",
    "tests/kernel/test_drill.py",
    "tests/sim/test_autotuning.py",
    "tests/sim/test_search.py",
    "tests/tools/test_bench_memory.py",
}
"""Files that pytest-xdist gives to one worker each, since their tests have something in common that takes long."""

# A machine that is busy with something else is no failure.
settings.register_profile("tcpstack", deadline=None)
settings.load_profile("tcpstack")


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """The package's own plugin, where it isn't installed and so did not announce itself."""
    if not pluginmanager.is_registered(pytest_plugin):
        pluginmanager.register(pytest_plugin, "tcpstack")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both, but where a test says that it is not about the loop."""
    if item.get_closest_marker("any_loop") is not None:
        return {"uvloop": uvloop.new_event_loop}
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What -n auto means: half of the tests wait for other processes."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each test goes to the next worker that is free, but for UNDIVIDED, which go first."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return path if path in UNDIVIDED else nodeid

    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With pytest-xdist, the tests that wait evenly among those that compute."""
    if hasattr(config, "workerinput"):
        waiting, computing = [], []
        for item in items:
            (computing if item.get_closest_marker("kernel") is None else waiting).append(item)
        places = [((index + 0.5) / len(part), item) for part in (waiting, computing) for index, item in enumerate(part)]
        items[:] = [item for _, item in sorted(places, key=lambda place: place[0])]


def kernel_is_required() -> bool:
    """Whether a kernel test that can't run is a failure."""
    return os.environ.get("TCPSTACK_REQUIRE_KERNEL") == "1" or os.environ.get("CI") in ("true", "1")


@functools.cache
def kernel_problem(device: str | None) -> str | None:
    """Why no namespace with such a device (Namespace.open's) can be had here; None where one can. Tried once."""
    try:
        Namespace.open(device=device).close()
    except NamespaceError as error:
        return error.strerror
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kernel") is None:
        return
    problem = kernel_problem("tun" if item.get_closest_marker("tun") else None)
    if problem is not None:
        pytest.skip(f"no kernel test can run here: {problem}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and item.get_closest_marker("kernel") is not None and kernel_is_required():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} (and TCPSTACK_REQUIRE_KERNEL=1 or CI=true makes that a failure)"
    return report
