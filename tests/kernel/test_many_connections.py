"""Many connections, one after another and at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tcpstack.cli.services import echo

CLIENT = Path(__file__).with_name("echo_client.py")


@pytest.mark.parametrize("host", ["10.9.0.2", "fd09::2"])
async def test_200_connections_at_once_echo(stack, namespace, host):
    await stack.start_server(echo, port=7, backlog=256)
    result = await namespace.run(sys.executable, CLIENT, host, "7", "200", "parallel", timeout=60)
    assert result.stdout == b"200\n", result.stderr


async def test_1000_connections_one_after_another_echo_and_leave_nothing(stack, namespace):
    await stack.start_server(echo, port=7)
    result = await namespace.run(sys.executable, CLIENT, "10.9.0.2", "7", "1000", "sequential", timeout=60)
    assert result.stdout == b"1000\n", result.stderr
    assert len(stack.connections) <= 1  # the last one may still be saying goodbye
