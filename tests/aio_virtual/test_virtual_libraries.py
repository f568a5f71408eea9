"""Libraries that make their own sockets run unchanged, and their runs replay."""

from __future__ import annotations

import pytest

from tcpstack.aio.virtual import SimulatedHost
from tests.aio_virtual.libraries import http_over_a_link_that_loses, upper_client, upper_server
from tests.aio_virtual.test_virtual_determinism import in_another_process


def test_aiohttp_over_a_link_that_loses_is_the_same_run_in_every_process():
    answers, digest = http_over_a_link_that_loses(3)
    assert answers == [
        {"path": f"/{name}", "size": 50_000} for name in ("one", "two", "three", "four")
    ]
    expected = f"{digest.events} {digest.hexdigest()}"
    assert digest.events > 300
    for hash_seed in ("1", "2"):
        assert in_another_process("-m", "tests.aio_virtual.libraries", "3", hash_seed=hash_seed) == expected
    assert http_over_a_link_that_loses(4)[1].hexdigest() != digest.hexdigest()


@pytest.mark.parametrize(("listening", "host"), [(None, "b"), (None, "fd00::2"), ("0.0.0.0", "10.0.0.2")])
def test_anyio_listens_and_connects(a: SimulatedHost, b: SimulatedHost, listening: str | None, host: str):
    b.spawn(upper_server(listening))
    assert a.run(upper_client(host)) == b"HELLO"
