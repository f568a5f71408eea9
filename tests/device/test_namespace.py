"""A private namespace: what is in it, how COMMAND lives there, what is left of it, and what each refusal says."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tcpstack.device import _namespace_helper as helper
from tcpstack.device import namespace as module
from tcpstack.device.base import DeviceError
from tcpstack.device.namespace import Namespace, NamespaceError
from tcpstack.device.packet_socket import PacketSocketDevice
from tcpstack.device.tun import NoTunError, TunDevice
from tcpstack.wire.packet import Packet
from tests.ordinary_user import ENVIRONMENT, PYTHON, ROOT, as_ordinary_user, needs_root


@pytest.fixture
def opened() -> Iterator[Namespace]:
    with Namespace.open() as namespace:
        yield namespace


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def inside(namespace: Namespace, *argv: str) -> str:
    command = [*namespace.exec_prefix, *argv]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def run_command(namespace: Namespace, *argv: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Start COMMAND; its status and what it wrote to stdout."""
    reader, writer = os.pipe()
    with open(os.devnull) as null, open(reader) as output:
        process = namespace.start(argv, env=env, stdio=(null.fileno(), writer, 2))
        os.close(writer)
        text = output.read()
        return process.wait(30), text


def descriptors() -> list[str]:
    return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if is_open(fd))


def is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def network_namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def network_namespaces_in_use() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.add(network_namespace(int(entry.name)))
            except OSError:
                continue  # it ended while we looked
    return found


def wait_for_end(pid: int, seconds: float) -> bool:
    """Whether a process that is no child of ours ends in time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


# What is inside

@pytest.mark.kernel
def test_open_makes_lo_and_a_tun_with_the_kernels_addresses_and_no_default_route(opened):
    links = {link["ifname"]: link for link in json.loads(inside(opened, "ip", "-json", "address"))}
    assert links.keys() == {"lo", "tun0"}
    assert "UP" in links["lo"]["flags"]
    assert "UP" in links["tun0"]["flags"]
    addresses = [f"{item['local']}/{item['prefixlen']}" for item in links["tun0"]["addr_info"]]
    assert addresses == ["10.9.0.1/24", "fd09::1/64"]
    assert links["tun0"]["mtu"] == opened.device.mtu == 1500
    assert links["tun0"]["txqlen"] == 2000
    assert inside(opened, "ip", "route", "show", "default") == ""
    assert inside(opened, "ip", "-6", "route", "show", "default") == ""


@pytest.mark.kernel
def test_open_takes_addresses_mtu_queue_and_name():
    with Namespace.open(("192.0.2.1/30",), mtu=9000, txqueuelen=10, tun_name="wire") as namespace:
        [link] = json.loads(inside(namespace, "ip", "-json", "address", "show", "dev", "wire"))
    assert [item["local"] for item in link["addr_info"]] == ["192.0.2.1"]
    assert (link["mtu"], link["txqlen"]) == (9000, 10)
    assert (namespace.device.mtu, namespace.device.name) == (9000, "wire")


@pytest.mark.kernel
def test_packet_sent_inside_arrives_outside_and_nothing_else_does(opened):
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'hello', ('10.9.0.2', 9))"
    inside(opened, sys.executable, "-c", code)
    assert [packet.data()[28:] for packet in opened.device.receive(10, 0)] == [b"hello"]


@pytest.mark.kernel
async def test_open_works_from_a_running_loop_through_a_thread():
    namespace = await asyncio.to_thread(Namespace.open)
    process = await asyncio.create_subprocess_exec(*namespace.exec_prefix, "ip", "link", stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert b"tun0" in output
    await asyncio.to_thread(namespace.close)


# Which device

KINDS = [pytest.param("tun", TunDevice, marks=pytest.mark.tun), ("veth", PacketSocketDevice)]


@pytest.mark.kernel
@pytest.mark.parametrize(("kind", "type_"), KINDS)
def test_device_that_is_asked_for_is_had_and_is_all_there_is(kind, type_):
    with Namespace.open(device=kind) as namespace:
        links = {link["ifname"]: link for link in json.loads(inside(namespace, "ip", "-json", "address"))}
    assert isinstance(namespace.device, type_)
    assert namespace.fallback_reason is None
    assert links.keys() == {"lo", "tun0"}
    addresses = [f"{item['local']}/{item['prefixlen']}" for item in links["tun0"]["addr_info"]]
    assert addresses == ["10.9.0.1/24", "fd09::1/64"]


@pytest.mark.kernel
def test_environment_variable_says_which_device_where_the_caller_does_not(monkeypatch):
    monkeypatch.setenv("TCPSTACK_DEVICE", "veth")
    with Namespace.open() as namespace:
        assert isinstance(namespace.device, PacketSocketDevice)


def test_unknown_device_is_a_value_error_before_anything_starts(monkeypatch):
    monkeypatch.setattr(module, "_start_helper", lambda fd, rootless: pytest.fail("a helper was started"))
    monkeypatch.setenv("TCPSTACK_DEVICE", "tap")
    with pytest.raises(ValueError, match="TCPSTACK_DEVICE can be auto, tun or veth, not 'tap'"):
        Namespace.open()


@pytest.mark.kernel
@pytest.mark.parametrize(("kind", "type_"), KINDS)
def test_device_outlives_the_last_process_of_the_namespace_and_ends_with_close(kind, type_):
    before = descriptors()
    with Namespace.open(device=kind) as namespace:
        assert run_command(namespace, "true") == (0, "")
        # Its interface is still there: a packet can be sent, and nothing says that it was deleted.
        assert namespace.device.send(Packet((bytes.fromhex("45000014") + bytes(16),)), 0)
        assert namespace.device.receive(10, 0) == []
    assert descriptors() == before


@pytest.mark.kernel
def test_command_that_deletes_the_veth_pair_ends_the_device():
    with Namespace.open(device="veth") as namespace:
        assert run_command(namespace, "ip", "link", "delete", "dev", "tun0") == (0, "")
        with pytest.raises(DeviceError, match="tun0 was deleted"):
            namespace.device.receive(1, 0)


NO_NODE = NoTunError(errno.ENOENT, "there is no node", "make one")
REQUEST = {"device": "auto", "offload": True, "name": "tun0", "addresses": [], "mtu": 1500, "txqueuelen": 1}


def refuse(error: DeviceError) -> Callable[..., None]:
    def raise_it(*args: object, **kwargs: object) -> None:
        raise error

    return raise_it


@pytest.mark.parametrize(("code", "told"), [(errno.EOPNOTSUPP, errno.ENOENT), (errno.EPERM, errno.EPERM)])
def test_neither_device_to_be_had_tells_the_remedy_for_the_tun(monkeypatch, code, told):
    monkeypatch.setattr(TunDevice, "open", refuse(NO_NODE))
    monkeypatch.setattr(helper.veth, "open_veth", refuse(DeviceError(code, "no veth pairs either")))
    with pytest.raises(DeviceError) as raised:
        helper._open_device(REQUEST)
    assert raised.value.errno == told  # EPERM is about capabilities, which a sysctl may keep from ordinary users
    assert raised.value.strerror == "there is no node: make one (nor is a veth pair to be had: no veth pairs either)"


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EINVAL, errno.EPERM])
def test_tun_that_fails_otherwise_is_an_error_and_no_reason_for_a_veth_pair(monkeypatch, code):
    monkeypatch.setattr(TunDevice, "open", refuse(DeviceError(code, "tun0 won't")))
    monkeypatch.setattr(helper.veth, "open_veth", lambda *args, **kwargs: pytest.fail("a veth pair was made"))
    with pytest.raises(DeviceError, match="tun0 won't"):
        helper._open_device(REQUEST)


# COMMAND

@pytest.mark.kernel
def test_start_runs_command_as_the_process_that_held_the_namespace(opened):
    status, output = run_command(opened, "sh", "-c", "echo $$; ip -br link show dev tun0; exit 7")
    assert status == opened.process.returncode == 7
    assert output.split()[0] == str(opened.pid)
    assert "tun0" in output.split()[1]


@pytest.mark.kernel
def test_command_gets_this_environment_and_nothing_of_the_helpers(opened, monkeypatch):
    monkeypatch.setenv("TCPSTACK_TEST_MARK", "later than open")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    _, output = run_command(opened, "env", "-0")
    assert dict(line.split("=", 1) for line in output.rstrip("\0").split("\0")) == dict(os.environ)


@pytest.mark.kernel
def test_command_gets_an_environment_larger_than_a_message(opened):
    large = {f"LARGE_{number}": "x" * 60_000 for number in range(10)}
    _, output = run_command(opened, "sh", "-c", "echo ${#LARGE_9}", env={"PATH": os.environ["PATH"], **large})
    assert output == "60000\n"


@pytest.mark.kernel
def test_command_ignores_no_signal_that_this_process_does_not_ignore(opened):
    _, output = run_command(opened, "grep", "SigIgn", "/proc/self/status")
    assert int(output.split()[1], 16) & (1 << signal.SIGINT - 1 | 1 << signal.SIGPIPE - 1) == 0


@pytest.mark.kernel
def test_command_inherits_that_the_interrupt_is_ignored():
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Namespace.open() as namespace:
            _, output = run_command(namespace, "grep", "SigIgn", "/proc/self/status")
    finally:
        signal.signal(signal.SIGINT, previous)
    assert int(output.split()[1], 16) & 1 << signal.SIGINT - 1


@pytest.mark.kernel
def test_command_holds_no_descriptor_but_the_three(opened):
    _, output = run_command(opened, "sh", "-c", "ls /proc/$$/fd")
    assert output.split() == ["0", "1", "2"]


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("argv", "kind"), [("no-such-program-here", FileNotFoundError), (str(ROOT), PermissionError)]
)
def test_command_that_can_not_be_run_raises_what_popen_would(opened, argv, kind):
    with pytest.raises(kind) as raised:
        opened.start([argv])
    assert raised.value.filename == argv
    assert opened.process.wait(5) == 0


@pytest.mark.kernel
def test_interrupt_before_the_go_does_not_end_the_helper(opened):
    os.kill(opened.pid, signal.SIGINT)
    assert run_command(opened, "echo", "still here") == (0, "still here\n")


# The end

@pytest.mark.kernel
@pytest.mark.parametrize("command", [None, ("sleep", "1000")])
def test_close_leaves_no_process_descriptor_or_namespace(command, monkeypatch):
    monkeypatch.setattr(module, "_END_S", 30)  # it ends by itself, however busy the machine is
    before = descriptors()
    namespace = Namespace.open()
    inode = network_namespace(namespace.pid)
    if command:
        namespace.start(command)

    namespace.close()
    namespace.close()

    assert namespace.process.returncode == (-signal.SIGTERM if command else 0)
    assert not Path(f"/proc/{namespace.pid}").exists()
    assert inode not in network_namespaces_in_use()
    assert descriptors() == before


@pytest.mark.kernel
def test_close_kills_a_command_that_will_not_end(opened, monkeypatch, pipe):
    monkeypatch.setattr(module, "_END_S", 0.1)
    reader, writer = pipe
    opened.start(["sh", "-c", "trap '' TERM; echo ready; exec sleep 1000"], stdio=(0, writer, 2))
    assert os.read(reader, 6) == b"ready\n"
    started = time.monotonic()
    opened.close()
    assert opened.process.returncode == -signal.SIGKILL
    assert time.monotonic() - started < 5


@pytest.mark.kernel
@pytest.mark.parametrize("start", ["", "namespace.start(['sleep', '1000']); "], ids=["helper", "COMMAND"])
def test_holder_ends_when_this_process_is_killed(start):
    code = (
        "from tcpstack.device.namespace import Namespace; import time; "
        f"namespace = Namespace.open(); {start}print(namespace.pid, flush=True); time.sleep(1000)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment_with_package(), text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert wait_for_end(pid, 5)


@pytest.mark.kernel
def test_command_ends_with_the_thread_that_opened_the_namespace():
    result: list[Namespace] = []

    def open_and_start() -> None:
        result.append(Namespace.open())
        result[0].start(["sleep", "1000"])

    thread = threading.Thread(target=open_and_start)
    thread.start()
    thread.join()
    assert result[0].process.wait(5) == -signal.SIGKILL
    result[0].close()


# Without privilege

def environment_with_package() -> dict[str, str]:
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("-packages"))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


PROBE = """
import json, subprocess
from tcpstack.device.namespace import Namespace, NamespaceError
try:
    with Namespace.open() as namespace:
        user = namespace.exec_prefix[3]
        links = subprocess.run([*namespace.exec_prefix, "ip", "-br", "address"], capture_output=True, text=True)
        process = namespace.start(["sh", "-c", "id -u; grep CapAmb /proc/self/status"])
        device, reason = type(namespace.device).__name__, namespace.fallback_reason
        report = {"links": links.stdout, "user": user, "device": device, "reason": reason, "status": process.wait()}
        print(json.dumps(report))
except NamespaceError as error:
    print(json.dumps({"errno": error.errno, "message": error.strerror}))
"""


def probe(*prefix: str, python: str = sys.executable, env: dict[str, str] | None = None) -> tuple[list[str], dict]:
    """Run PROBE behind a command prefix: the lines that COMMAND wrote, and PROBE's report."""
    command = [*prefix, python, "-P", "-c", PROBE]
    result = subprocess.run(
        command, capture_output=True, text=True, env=env or environment_with_package(), timeout=60, cwd="/"
    )
    assert result.stdout, result.stderr
    *lines, report = result.stdout.splitlines()
    return lines, json.loads(report)


# CAP_SETFCAP stays: without it the kernel lets nobody map uid 0 into a user namespace.
UNCAPABLE = ("setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all")


def probe_as_nobody(node_mode: str, **env: str) -> tuple[list[str], dict]:
    return probe(*as_ordinary_user(node_mode=node_mode), python=PYTHON, env={**ENVIRONMENT, **env})


@pytest.mark.kernel
def test_without_capabilities_a_user_namespace_does():
    needs_root()
    lines, report = probe(*UNCAPABLE)
    assert report["user"] == "-U"
    assert "10.9.0.1/24 fd09::1/64" in report["links"]
    assert (lines[0], report["status"]) == ("0", 0)


@pytest.mark.kernel
def test_ordinary_user_keeps_the_uid_and_has_ambient_capabilities():
    needs_root()
    lines, report = probe_as_nobody("0666")
    assert "10.9.0.1/24 fd09::1/64" in report["links"]
    assert lines[0] == "65534"
    assert int(lines[1].split()[1], 16) & 1 << 13  # CAP_NET_RAW: what ping and tcpdump need


@pytest.mark.kernel
def test_ordinary_user_who_may_not_open_the_node_is_told_so():
    needs_root()
    _, report = probe_as_nobody("0600", TCPSTACK_DEVICE="tun")
    assert report["errno"] == errno.EACCES
    assert report["message"].startswith("this user may not open /dev/net/tun: run as root, or")


@pytest.mark.kernel
def test_ordinary_user_who_may_not_open_the_node_gets_a_veth_pair_and_hears_why():
    needs_root()
    lines, report = probe_as_nobody("0600")
    assert (report["device"], report["reason"]) == ("PacketSocketDevice", "this user may not open /dev/net/tun")
    assert "10.9.0.1/24 fd09::1/64" in report["links"]
    assert lines[0] == "65534"


# Refusals

HIDE_NODE = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev/net && exec "$@"', "sh")


@pytest.mark.kernel
def test_no_device_node_names_the_driver():
    needs_root()
    _, report = probe(*HIDE_NODE, env={**environment_with_package(), "TCPSTACK_DEVICE": "tun"})
    assert report["errno"] == errno.ENOENT
    assert "`modprobe tun`" in report["message"]


@pytest.mark.kernel
def test_no_device_node_is_a_reason_for_a_veth_pair():
    needs_root()
    _, report = probe(*HIDE_NODE, env={**environment_with_package(), "TCPSTACK_DEVICE": "auto"})
    assert (report["device"], report["reason"]) == ("PacketSocketDevice", "there is no /dev/net/tun")


@pytest.mark.kernel
def test_limit_of_user_namespaces_is_named():
    needs_root()
    limit = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\""
    _, report = probe("unshare", "-U", "-r", "sh", "-c", limit, "sh", *UNCAPABLE)
    assert report["errno"] == errno.ENOSPC
    assert "user.max_user_namespaces is 0" in report["message"]


@pytest.mark.kernel
def test_denied_user_namespace_says_so_in_a_sentence():
    needs_root()
    # Who has no uid in the namespace that they are in may make none below it.
    _, report = probe("unshare", "-U", "--")
    assert report["errno"] == errno.EPERM
    assert report["message"].startswith("this process may not make a user namespace: run as root")


@pytest.mark.parametrize(
    ("switch", "value"),
    [("kernel.apparmor_restrict_unprivileged_userns", "1"), ("kernel.unprivileged_userns_clone", "0")],
)
@pytest.mark.parametrize("place", ["unshare", "helper"])
def test_switch_that_denies_user_namespaces_is_named(monkeypatch, switch, value, place):
    monkeypatch.setattr(module, "_sysctl", {switch: value}.get)
    if place == "unshare":
        line = "unshare: write failed /proc/self/uid_map: Operation not permitted"
        error = module._unshare_error(line, rootless=True)
    else:
        error = module._helper_error(errno.EPERM, "attaching takes CAP_NET_ADMIN", rootless=True)
    assert error.errno == errno.EPERM
    assert f"sudo sysctl {switch}={1 - int(value)}" in error.strerror


def test_old_unshare_is_quoted():
    error = module._unshare_error("unshare: unrecognized option '--keep-caps'", rootless=True)
    assert error.strerror == "no user namespace could be made (unshare: unrecognized option '--keep-caps')"


def test_missing_unshare_names_its_package(monkeypatch, tmp_path):
    before = descriptors()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NamespaceError, match="no program unshare: install the package util-linux") as raised:
        Namespace.open()
    assert raised.value.errno == errno.ENOENT
    assert descriptors() == before


@pytest.mark.kernel
def test_helper_that_dies_is_reported_with_its_last_line_and_leaves_nothing(monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho first >&2\necho 'ImportError: no module' >&2\nexit 9\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    before = descriptors()
    with pytest.raises(NamespaceError, match="the helper in the namespace died: ImportError: no module") as raised:
        Namespace.open()
    assert isinstance(raised.value, DeviceError)
    assert descriptors() == before


@pytest.mark.kernel
def test_helper_that_hangs_is_killed_in_time(monkeypatch):
    monkeypatch.setattr(module, "_SET_UP_S", 0.2)
    monkeypatch.setattr(sys, "executable", shutil.which("cat"))
    monkeypatch.setattr(module, "_start_helper", lambda fd, rootless: subprocess.Popen(
        ["sleep", "1000"], stderr=subprocess.PIPE, pass_fds=(fd,)
    ))
    with pytest.raises(NamespaceError, match="no namespace came up within") as raised:
        Namespace.open()
    assert raised.value.errno == errno.ETIMEDOUT


@pytest.mark.kernel
def test_refusal_of_the_kernel_to_configure_arrives_with_errno_and_sentence():
    before = descriptors()
    with pytest.raises(NamespaceError, match="tun0 can't take an MTU of 12: Invalid argument") as raised:
        Namespace.open(mtu=12)
    assert raised.value.errno == errno.EINVAL
    assert descriptors() == before


def test_impossible_address_is_a_value_error_before_anything_starts(monkeypatch):
    monkeypatch.setattr(module, "_start_helper", lambda fd, rootless: pytest.fail("a helper was started"))
    with pytest.raises(ValueError, match=r"10\.9\.0\.300"):
        Namespace.open(("10.9.0.300/24",))
