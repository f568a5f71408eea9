"""pytest within pytest: `check` runs a test file with the plugin, and with no other that happens to be installed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import tcpstack.pytest_plugin

Check = Callable[..., pytest.RunResult]


def section(result: pytest.RunResult) -> str:
    """What the report says between the plugin's heading and the next."""
    found = re.search(r"^-+ tcpstack -+\n(.*?)^(?:[=_-]{5,}|tcpstack:)", result.stdout.str(), re.MULTILINE | re.DOTALL)
    assert found is not None, result.stdout.str()
    return found[1]


@pytest.fixture
def check(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Check:
    """`check(source, *arguments)`: the result of pytest with -W error on a test file, in this process; with
    `apart=True` in one of its own, for which `plugins` are other plugins to load."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # What the surrounding run was told is not for this one.
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)

    def run(source: str, *arguments: str, apart: bool = False, plugins: tuple[str, ...] = ()) -> pytest.RunResult:
        pytester.makepyfile(test_it=source)
        options = ("-W", "error", "--strict-markers", "-p", "no:cacheprovider", *arguments)
        if not apart:
            return pytester.runpytest_inprocess(*options, plugins=[tcpstack.pytest_plugin])
        named = [word for plugin in ("tcpstack.pytest_plugin", *plugins) for word in ("-p", plugin)]
        root = tcpstack.__path__[0].removesuffix("/tcpstack")
        monkeypatch.setenv("PYTHONPATH", root)
        return pytester.runpytest_subprocess(*named, *options)

    return run
