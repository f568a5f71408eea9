"""The world of a simulation: its hosts' names, both ways, and whom links lead to."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import time
from ipaddress import ip_address

import pytest

from tcpstack.aio.virtual import Simulation
from tests.aio_virtual.programs import echo_client, echo_server

# Names


def test_older_calls_and_those_from_addresses_to_names_know_the_hosts(sim, a):
    async def program() -> None:
        assert socket.getfqdn() == socket.getfqdn("10.0.0.1") == "a"
        assert socket.getfqdn("b") == "b"
        assert socket.getfqdn("elsewhere.example") == "elsewhere.example"
        assert socket.gethostbyname("b") == "10.0.0.2"
        assert socket.gethostbyname("192.0.2.7") == "192.0.2.7"
        assert socket.gethostbyname_ex("b") == ("b", [], ["10.0.0.2"])
        assert socket.gethostbyaddr("10.0.0.2") == socket.gethostbyaddr("b") == ("b", [], ["10.0.0.2"])
        assert socket.gethostbyaddr("127.0.0.1") == ("localhost", [], ["127.0.0.1"])
        assert socket.gethostbyaddr("fd00::2") == ("b", [], ["fd00::2"])
        with pytest.raises(socket.gaierror, match="no simulated host is called 'elsewhere'"):
            socket.gethostbyname("elsewhere")
        with pytest.raises(socket.herror, match=r"no simulated host has the address 192\.0\.2\.7"):
            socket.gethostbyaddr("192.0.2.7")

    a.run(program())


def test_name_of_a_sockets_address_is_its_hosts(sim, a):
    async def program() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.getnameinfo(("10.0.0.2", 80)) == ("b", "80")
        assert await loop.getnameinfo(("fd00::2", 80, 0, 0)) == socket.getnameinfo(("fd00::2", 80), 0) == ("b", "80")
        assert await loop.getnameinfo(("10.0.0.2", 80), socket.NI_NUMERICHOST) == ("10.0.0.2", "80")
        assert await loop.getnameinfo(("192.0.2.7", 80)) == ("192.0.2.7", "80")
        with pytest.raises(socket.gaierror, match="no simulated host has the address"):
            await loop.getnameinfo(("192.0.2.7", 80), socket.NI_NAMEREQD)
        with pytest.raises(TypeError, match="an IP address and a port, not 'b'"):
            socket.getnameinfo("b", 0)

    a.run(program())


@pytest.mark.parametrize("name", ["", " ", "b c", "b\n", "10.0.0.9", "::1", "\0", 3, None])
def test_name_that_nobody_could_ask_for_is_told(sim, name):
    with pytest.raises(ValueError, match=re.escape(f"such as 'a' or 'db.example', not {name!r}")):
        sim.host(name, "10.0.1.1/24")
    sim.host("db.example", "10.0.1.1/24")


def test_address_without_a_prefix_length_is_a_host_by_itself(sim):
    c, d = sim.host("c", "10.0.1.1"), sim.host("d", "192.168.7.2")
    sim.link(c, d)
    d.spawn(echo_server())
    assert c.run(echo_client("d", b"text")) == b"text"


# Routes


async def connect_to_c() -> tuple[OSError, float]:
    with pytest.raises(OSError, match="Connect call failed") as caught:
        await asyncio.open_connection("c", 80)
    return caught.value, time.monotonic()


def test_host_without_a_link_says_so_at_once():
    sim = Simulation()
    a, _c = sim.host("a", "10.0.0.1/24"), sim.host("c", "10.0.0.2/24")
    error, after_s = a.run(connect_to_c())
    assert error.errno == errno.ENETUNREACH
    assert str(error).endswith("('10.0.0.2', 80): a has no link: give it one by Simulation.link()")
    assert after_s == 1.0


def test_host_that_no_link_leads_to_is_told_at_once_until_one_does(sim, a, b):
    c, d, router = sim.host("c", "10.0.1.1/24"), sim.host("d", "10.0.1.2/24"), sim.router("r")
    sim.link(c, router)
    error, after_s = a.run(connect_to_c())
    assert error.errno == errno.ENETUNREACH
    assert str(error).endswith("no link leads from a to c: join them by Simulation.link(), or by routers")
    assert after_s == 1.0
    error, _ = d.run(connect_to_c())
    assert "d has no link" in str(error)
    sim.link(router, d)
    assert isinstance(d.run(connect_to_c())[0], ConnectionRefusedError)


def test_way_to_oneself_needs_no_link():
    a = Simulation().host("a", "10.0.0.1/24", "fd00::1/64")
    for own in ("10.0.0.1", "fd00::1", "127.0.0.1", "127.3.2.1", "::1"):
        a._check_route(ip_address(own).packed)
    with pytest.raises(OSError, match="a has no link"):
        a._check_route(ip_address("10.0.0.3").packed)
