"""Asynchronous tests run on both event loops; tests that need the kernel say so when they can't have it."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Generator

import pytest
import uvloop
from hypothesis import settings

from tcpstack import pytest_plugin
from tcpstack.device.namespace import Namespace, NamespaceError

pytest_plugins = ["pytester"]

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
