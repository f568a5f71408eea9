"""The HTTP server over the machine's loopback, with a directory to serve."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.http_client import BIG, MODIFIED_S, Served


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (root / "small.txt").write_text("hello\n")
    (root / "big.bin").write_bytes(BIG)
    (root / "empty.txt").write_bytes(b"")
    (root / "archive.tar.gz").write_bytes(b"\x1f\x8b")
    (root / "site").mkdir()
    (root / "site" / "index.html").write_text("<p>index")
    (root / "plain").mkdir()
    (root / "plain" / "a <b>&c.txt").write_text("x")
    (root / "plain" / "x:y").write_text("colon")
    (root / "plain" / "sub").mkdir()
    os.utime(root / "small.txt", (MODIFIED_S, MODIFIED_S))
    served = Served(root)
    server = await asyncio.start_server(served.handle, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    yield served
    server.close()
    for client in served.clients:
        client.writer.close()
    await asyncio.wait_for(asyncio.gather(*served.tasks), 5)
    await server.wait_closed()
