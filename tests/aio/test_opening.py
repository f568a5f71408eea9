from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from ipaddress import ip_interface
from pathlib import Path

import pytest

import tcpstack
from tcpstack.aio.opening import kernel_addresses
from tcpstack.device import memory
from tests.aio.recorder import Recorder


def interfaces(*texts: str) -> list[object]:
    return [ip_interface(text) for text in texts]


@pytest.mark.parametrize(
    ("own", "present", "missing"),
    [
        (["10.9.0.2/24"], [], ["10.9.0.1/24"]),
        (["10.9.0.1/24"], [], ["10.9.0.2/24"]),
        (["10.9.0.1/24", "10.9.0.2/24"], [], ["10.9.0.3/24"]),
        (["10.9.0.2/24", "fd09::2/64"], [], ["10.9.0.1/24", "fd09::1/64"]),
        (["10.9.0.2/24", "fd09::2/64"], ["10.9.0.254/24"], ["fd09::1/64"]),
        (["10.9.0.2/24"], ["10.9.0.254/24"], []),
        (["10.9.0.1/31"], [], ["10.9.0.0/31"]),
    ],
)
def test_kernel_gets_the_first_free_address_of_each_subnet_that_it_lacks(
    own: list[str], present: list[str], missing: list[str]
) -> None:
    assert kernel_addresses(interfaces(*own), interfaces(*present)) == interfaces(*missing)


def test_subnet_without_room_for_the_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10.9.0.2/32 leaves the kernel no address"):
        kernel_addresses(interfaces("10.9.0.2"), [])


def test_address_that_the_kernel_has_itself_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10.9.0.2 is the kernel's own address there"):
        kernel_addresses(interfaces("10.9.0.2/24"), interfaces("10.9.0.2/24"))


async def test_open_tun_runs_a_host_on_a_device_that_is_handed_in_and_closes_it() -> None:
    wire_a, wire_b = memory.pair()
    async with (
        tcpstack.open_tun(device=wire_a, addresses=["10.9.0.1/24", "fd09::1/64"]) as a,
        tcpstack.open_tun("ignored", "10.9.0.2/24", device=wire_b) as b,
    ):
        assert [str(address) for address in a.addresses] == ["10.9.0.1/24", "fd09::1/64"]
        async with await a.create_server(Recorder, port=80):
            transport, _ = await b.create_connection(Recorder, "10.9.0.1", 80)
            transport.abort()
    with pytest.raises(tcpstack.DeviceError, match="closed"):
        wire_a.receive(1, 0)


async def test_open_tun_without_an_address_raises_value_error_before_it_touches_a_device() -> None:
    with pytest.raises(ValueError, match="needs an address"):
        async with tcpstack.open_tun("tun0"):
            pass


async def test_bad_fault_rule_is_refused_and_the_device_closed() -> None:
    device, _ = memory.pair()
    with pytest.raises(tcpstack.FaultRuleError):
        async with tcpstack.open_tun(device=device, addresses=["10.9.0.1/24"], faults=["drop everything"]):
            pass
    with pytest.raises(tcpstack.DeviceError, match="closed"):
        device.receive(1, 0)


async def test_device_is_closed_when_the_body_raises() -> None:
    device, _ = memory.pair()
    with pytest.raises(ZeroDivisionError):
        async with tcpstack.open_tun(device=device, addresses=["10.9.0.1/24"]):
            raise ZeroDivisionError
    with pytest.raises(tcpstack.DeviceError, match="closed"):
        device.receive(1, 0)


async def test_descriptor_that_is_no_tun_device_raises_device_error() -> None:
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(tcpstack.DeviceError, match="TUN device"):
            async with tcpstack.open_tun(None, "10.9.0.2/24", fd=read_end):
                pass
    finally:
        os.close(read_end)
        os.close(write_end)


def test_package_exports_what_it_promises() -> None:
    for name in tcpstack.__all__:
        assert getattr(tcpstack, name) is not None
        assert name in dir(tcpstack)
    with pytest.raises(AttributeError, match="no attribute 'open_tap'"):
        tcpstack.open_tap  # noqa: B018


def test_version_is_the_project_s() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert tcpstack.__version__ == project["version"]


def test_importing_the_package_and_its_host_stays_light() -> None:
    program = (
        "import sys, tcpstack\n"
        "print('asyncio' in sys.modules, 'dpkt' in sys.modules)\n"
        "tcpstack.open_tun\n"
        "print('asyncio' in sys.modules, 'pyroute2' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert shown.split() == ["False", "False", "True", "False"]
