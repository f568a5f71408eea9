"""Two simulated hosts, a at 10.0.0.1 and b at 10.0.0.2, 10 ms apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tcpstack.aio.virtual import SimulatedHost, Simulation


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with Simulation(seed=1) as simulation:
        a = simulation.host("a", "10.0.0.1/24", "fd00::1/64")
        b = simulation.host("b", "10.0.0.2/24", "fd00::2/64")
        simulation.link(a, b, delay="10ms")
        yield simulation


@pytest.fixture
def a(sim: Simulation) -> SimulatedHost:
    return sim.hosts["a"]


@pytest.fixture
def b(sim: Simulation) -> SimulatedHost:
    return sim.hosts["b"]
