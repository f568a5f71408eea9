"""Selective acknowledgements with the kernel: what is lost goes again, and nothing else, whichever end sends."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys

import pytest

from tcpstack.core.config import Config
from tcpstack.core.events import ConnectionClosed, FaultHit, SegmentIn, SegmentOut
from tests.kernel.test_offload import with_and_without_offload

OURS = random.Random(1).randbytes(1_000_000)
THEIRS = random.Random(2).randbytes(1_000_001)

# Hears up to the FIN, then says the file, and tells what tcp_info has. The fields are linux/tcp.h's, by offset.
PEER = """
import hashlib, json, socket, struct, sys
host, file = sys.argv[1:]
s = socket.create_connection((host, 9000), timeout=60)
digest = hashlib.sha256()
s.sendall(open(file, "rb").read())
s.shutdown(socket.SHUT_WR)
while chunk := s.recv(1 << 20):
    digest.update(chunk)
info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
print(json.dumps({
    "digest": digest.hexdigest(),
    "sack": bool(info[5] & 2),
    "retransmitted": struct.unpack_from("I", info, 100)[0],
    "dsacks": struct.unpack_from("I", info, 216)[0],
}), flush=True)
s.close()
"""

LOSSES = ["drop data nth=3..5", "drop data nth=7", "drop data nth=20..25", "loss 3% data seed=1"]


class Conversation:
    """What was seen of it: `hits` are the rules', `again` our segments with octets that had left before."""

    def __init__(self):
        self.hits = []
        self.again = []
        self.probes = 0
        self.known_again = []
        self.reports = 0
        self.our_reports = 0
        self.closed = None
        self._high = 0
        self._sacked = set()

    def __call__(self, event):
        if isinstance(event, FaultHit):
            self.hits.append(event)
        elif isinstance(event, ConnectionClosed):
            self.closed = event
        elif isinstance(event, SegmentIn) and event.segment.options is not None and event.segment.options.sack:
            segment = event.segment
            self.reports += 1
            blocks = segment.options.sack
            if not (blocks[0][1] - segment.ack) & (1 << 31):  # no D-SACK below the acknowledgement
                for left, right in blocks:
                    self._sacked.update(range(left // 100, right // 100))
        elif isinstance(event, SegmentOut):
            self._left(event.segment)

    def _left(self, segment):
        options = segment.options
        self.our_reports += bool(options is not None and options.sack)
        if not segment.payload_len:
            return
        self.probes += "tail loss probe" in segment.reason
        if segment.reason.startswith("retransmission"):
            self.again.append(segment)
            first, last = segment.seq // 100 + 1, (segment.seq + segment.payload_len) // 100
            if any(hundred in self._sacked for hundred in range(first, last)):
                self.known_again.append(segment)


@pytest.fixture
async def patient(namespace):
    """The kernel sends nothing again because we are slow to answer, which on a busy machine we may be."""
    for command in (
        "sysctl -qw net.ipv4.tcp_early_retrans=0",
        "ip route replace 10.9.0.0/24 dev tun0 src 10.9.0.1 rto_min 5s",
    ):
        done = await namespace.run(*command.split())
        assert done.returncode == 0, done.stderr


async def exchange(namespace, open_stack, tmp_path, rule, ours, theirs, config=None):
    seen = Conversation()
    stack = await open_stack(faults=[rule] if rule else (), tracer=seen, config=config)
    heard = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        text = await reader.read()
        writer.write(ours)
        writer.close()
        heard.set_result(text)

    await stack.start_server(serve, port=9000)
    (tmp_path / "theirs").write_bytes(theirs)
    result = await namespace.run(sys.executable, "-c", PEER, "10.9.0.2", tmp_path / "theirs", timeout=60)
    assert await asyncio.wait_for(heard, 30) == theirs, result.stderr
    told = json.loads(result.stdout)
    assert told["digest"] == hashlib.sha256(ours).hexdigest()
    async with asyncio.timeout(30):
        while seen.closed is None:
            await asyncio.sleep(0.01)
    assert seen.closed.error is None
    return seen, told


@with_and_without_offload
@pytest.mark.parametrize("sack", [True, False], ids=["sack", "no sack"])
async def test_it_is_negotiated_where_we_offer_it(namespace, open_stack, tmp_path, sack):
    seen, told = await exchange(namespace, open_stack, tmp_path, "drop data nth=5", OURS, THEIRS, Config(sack=sack))
    assert told["sack"] == sack
    assert (seen.reports + seen.our_reports > 0) == sack


@with_and_without_offload
@pytest.mark.parametrize("rule", LOSSES)
@pytest.mark.usefixtures("patient")
async def test_of_ours_only_what_was_lost_goes_again(namespace, open_stack, tmp_path, rule):
    seen, told = await exchange(namespace, open_stack, tmp_path, rule + " dir=out", OURS, b"go")
    assert seen.hits
    assert seen.reports
    assert seen.known_again == []
    assert len(seen.hits) <= seen.closed.retransmitted <= len(seen.hits) + seen.probes + 1
    assert told["retransmitted"] == 0


@with_and_without_offload
@pytest.mark.parametrize("rule", LOSSES)
async def test_of_the_kernels_only_what_was_lost_goes_again(namespace, open_stack, tmp_path, rule):
    seen, told = await exchange(namespace, open_stack, tmp_path, rule + " dir=in", b"done", THEIRS)
    assert seen.hits
    assert seen.our_reports
    assert told["sack"]
    # Its own tail loss probes, and what it takes as lost before the reordering window is over.
    assert len(seen.hits) <= told["retransmitted"] <= len(seen.hits) + 3


@with_and_without_offload
@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.usefixtures("patient")
async def test_doubled_text_is_reported_and_nothing_goes_again(namespace, open_stack, tmp_path, direction):
    rule = f"duplicate 100% data nth=3..9 dir={direction}"
    seen, told = await exchange(namespace, open_stack, tmp_path, rule, OURS, THEIRS)
    assert len(seen.hits) == 7
    assert (told["dsacks"] > 0, seen.reports > 0) == (direction == "in", direction == "out")
    assert told["retransmitted"] == 0
    # Round trips are so short here that a busy machine may provoke a probe.
    assert [segment for segment in seen.again if "tail loss probe" not in segment.reason] == []
