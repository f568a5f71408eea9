"""A pytest plugin: only tests marked rfc9293, and a report of them as JSON. It works with pytest-xdist, too.

    pytest -p tools.conformance.plugin --rfc9293-report=FILE [--rfc9293-label=MUST-13]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tcpstack


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rfc9293")
    group.addoption("--rfc9293-report", metavar="FILE", help="write which marked tests there are, and how they went")
    group.addoption("--rfc9293-label", metavar="LABEL", help="only the tests of this label")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Reporter(config), "rfc9293-reporter")


class _Reporter:
    def __init__(self, config: pytest.Config) -> None:
        self._label: str | None = config.getoption("--rfc9293-label")
        self._file: str | None = config.getoption("--rfc9293-report")
        self._works_for_another = hasattr(config, "workerinput")
        self._tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        kept, others = [], []
        for item in items:
            labels = [label for mark in item.iter_markers("rfc9293") for label in mark.args]
            if labels and (self._label is None or self._label in labels):
                kept.append(item)
                name = getattr(item, "originalname", None) or item.name
                path, line = item.path.relative_to(config.rootpath).as_posix(), item.location[1] or 0
                case = {"path": path, "line": line, "name": name, "labels": labels}
                # By this the tests are known where the reports arrive, which may be another process.
                item.user_properties.append(("rfc9293", case))
                self._tests[item.nodeid] = {**case, "outcome": None, "seconds": 0.0}
            else:
                others.append(item)
        items[:] = kept
        config.hook.pytest_deselected(items=others)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        case = dict(report.user_properties)["rfc9293"]
        test = self._tests.setdefault(report.nodeid, {**case, "outcome": None, "seconds": 0.0})
        test["seconds"] += report.duration
        if report.when == "call" or report.outcome != "passed":
            test["outcome"] = "failed" if test["outcome"] == "failed" else report.outcome

    def pytest_sessionfinish(self) -> None:
        if self._file is not None and not self._works_for_another:
            tests = sorted(self._tests.values(), key=lambda test: (test["path"], test["line"]))
            found = {"package": str(Path(tcpstack.__file__).parent), "tests": tests}
            Path(self._file).write_text(json.dumps(found))
