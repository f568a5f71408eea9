"""Each example of docs/testing.md passes, but for the one that is to fail: its report is the one on the page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import tcpstack
from tcpstack import pytest_plugin
from tests.plugin.conftest import Check, section

PAGE = (Path(tcpstack.__file__).parent.parent / "docs" / "testing.md").read_text()
EXAMPLES = re.findall(r"^```python(?: (\w+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def examples(kind: str) -> list[str]:
    return [text for word, text in EXAMPLES if word == kind]


@pytest.mark.parametrize("example", examples(""))
def test_example_in_virtual_time_passes(check: Check, example: str):
    result = check(example)
    assert set(result.parseoutcomes()) == {"passed"}


@pytest.mark.kernel
def test_example_in_real_time_passes(check: Check):
    (example,) = examples("asyncio")
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    settings = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    check(example, *settings, apart=True, plugins=("pytest_asyncio.plugin",)).assert_outcomes(passed=2)


def test_example_that_fails_has_the_report_on_the_page(check: Check):
    (example,) = examples("fails")
    shown = re.search(r"<!-- report -->\n```\n(.*?)```\n<!-- end of report -->", PAGE, re.DOTALL)
    assert shown is not None
    seed = re.search(r"--tcp-seed=(\d+)", shown[1])
    assert seed is not None
    result = check(example, seed[0])
    result.assert_outcomes(failed=1)
    assert section(result) == shown[1]


def test_page_names_every_fixture():
    named = re.findall(r"^\| `(tcp_\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(name for name in vars(pytest_plugin) if name.startswith("tcp_"))
