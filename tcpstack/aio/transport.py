"""One connection as an asyncio transport, with the semantics of asyncio's own socket transport.

The connection's text is pulled while the protocol reads: what a paused protocol does not take stays in the
engine, whose window then closes. The write buffer is what the engine has not *sent* yet; what is in flight is
the engine's matter, or the high-water mark would cap the throughput to itself in each round trip. A transport
that was closed hands the connection over to the engine as soon as everything was sent: retransmission, FIN
and TIME-WAIT go on without it, as they would in a kernel.
"""

from __future__ import annotations

import asyncio
from asyncio import constants, transports
from asyncio.log import logger
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from ..core.connection import Connection
from ..core.keepalive import KeepAliveSettings
from ..core.readiness import EOF, READABLE, RESET, URGENT, WRITABLE
from ..core.state import STATE_NAMES
from .driver import ConnectionUser, Driver
from .pseudo_socket import PseudoSocket, SocketAddress, socket_address

MAX_READ_BYTES = 256 * 1024
"""The most that one data_received gets, as in asyncio's own transports."""

_FAILED = object()
_NO_EXTRA: dict[str, Any] = {}
"""What asyncio's base class would make a dictionary of its own for: get_extra_info() here does without."""


def _check_bytes_like(data: object) -> None:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")


# The mix-in is asyncio's private one because loop.sendfile()'s fallback accepts no other transport.
class TcpTransport(transports._FlowControlMixin, ConnectionUser):
    """asyncio.Transport over a Connection that has reached ESTABLISHED (or more, while nobody looked).

    `connection_lost` gets None after a clean end or a local abort, else the OSError of which the connection
    died (ConnectionResetError, TimeoutError, a DeviceError, ...), or what the protocol raised.
    `get_extra_info` knows "peername", "sockname", "socket" (a PseudoSocket), "tcpstack", the engine's status of the
    connection, and "urgent_bytes": how many octets that are yet to be delivered, arrived or not, are urgent.

    Urgent text is delivered in its place, never in one `data_received` with what follows it. asyncio has no convention
    for more: a protocol that has `urgent_received(octets_left)` is called, reading or paused, when the peer says that
    there is urgent text, or more of it; `octets_left` is "urgent_bytes" at that moment.
    """

    __slots__ = (
        "__weakref__", "_buffered", "_closing", "_conn", "_detached", "_driver", "_eof_delivered",
        "_eof_written", "_lost_writes", "_on_lost", "_paused", "_protocol", "_pull_scheduled", "_socket",
        "_stack",
    )  # fmt: skip

    _loop: asyncio.AbstractEventLoop
    _protocol_paused: bool
    _maybe_pause_protocol: Callable[[], None]
    _maybe_resume_protocol: Callable[[], None]
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def __init__(
        self,
        driver: Driver,
        conn: Connection,
        protocol: asyncio.BaseProtocol,
        on_lost: Callable[[TcpTransport], object] | None = None,
    ) -> None:
        """`on_lost` is called after the protocol's connection_lost. Nothing happens before `start()`."""
        super().__init__(_NO_EXTRA, driver.loop)
        self._driver = driver
        self._stack = driver.stack
        self._conn = conn
        self._on_lost = on_lost
        self._socket: PseudoSocket | None = None
        self._closing = False  # close() or the end of the connection: no more data_received
        self._detached = False  # connection_lost is on its way; the engine's connection is no longer ours
        self._paused = False
        self._pull_scheduled = False
        self._eof_written = False
        self._eof_delivered = False
        self._lost_writes = 0
        self.set_protocol(protocol)
        # As asyncio does for its sockets: an application on an event loop coalesces its writes itself.
        conn.nodelay = True
        conn.awaits_sent = False  # until somebody waits for room, or for the end

    def start(self) -> None:
        """Call connection_made, then deliver what arrived before the protocol was there."""
        self._driver.attach(self, self._conn)
        if self._call("connection_made", self) is _FAILED:
            return
        urgent = URGENT if self._conn.urgent_bytes else 0
        self.on_readiness(urgent | READABLE | EOF | (RESET if self._conn.error is not None else 0))

    # The protocol's side: names, reading

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self._peername()
        if name == "sockname":
            return self._sockname()
        if name == "socket":
            if self._socket is None:
                setters = self._set_nodelay, self._set_keepalive, self._set_corked, self._set_user_timeout
                self._socket = PseudoSocket(self._conn, self._sockname(), self._peername(), *setters)
            return self._socket
        if name == "tcpstack":
            return self._conn.status()
        if name == "urgent_bytes":
            return self._conn.urgent_bytes
        return default

    def _set_nodelay(self, value: bool) -> None:
        if not self._detached:
            self._stack.set_nodelay(self._conn, value, self._driver.clock())
            self._driver.after_activity()

    def _set_corked(self, value: bool) -> None:
        if not self._detached:
            self._stack.set_corked(self._conn, value, self._driver.clock())
            self._driver.after_activity()

    def _set_user_timeout(self, timeout_ns: int | None) -> None:
        if not self._detached:
            self._stack.set_user_timeout(self._conn, timeout_ns, self._driver.clock())
            self._driver.after_activity()

    def _set_keepalive(self, settings: KeepAliveSettings) -> None:
        if not self._detached:
            self._stack.set_keepalive(self._conn, settings, self._driver.clock())
            self._driver.after_activity()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol: Any = protocol  # Protocol or BufferedProtocol: `_buffered` says which
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        if not self._closing:
            self._paused = True

    def resume_reading(self) -> None:
        """Deliveries begin in the loop's next turn, never from inside this call."""
        if self._closing or not self._paused:
            return
        self._paused = False
        if not self._pull_scheduled:
            self._pull_scheduled = True
            self._loop.call_soon(self._pull_resumed)

    # The protocol's side: writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Queue `data`; what the windows allow leaves from this very call.

        Raises TypeError for anything that is not bytes-like and RuntimeError after write_eof(). On a
        transport that is closing the data is dropped; from the fifth time on a warning is logged.
        """
        _check_bytes_like(data)
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data:
            return
        if self._closing:
            self._count_lost_write()
            return
        self._send(data)

    def _send(self, data: bytes | bytearray | memoryview[Any]) -> None:
        try:
            self._stack.send(self._conn, data, self._driver.clock())
        except OSError:
            # The connection died in this batch. If its notice is not on its way, it waits for unread text.
            self._count_lost_write()
            self._end(self._conn.error)
            return
        self._maybe_pause_protocol()
        if self._protocol_paused:
            self._conn.awaits_sent = True
        self._driver.after_activity()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super().set_write_buffer_limits(high, low)
        self._conn.awaits_sent = self._protocol_paused or self._closing

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Write the chunks as one: they are queued one by one, uncopied, and leave together.

        Raises TypeError, before anything is queued, where one of them is not bytes-like; else as `write`.
        """
        chunks = list(list_of_data)
        for chunk in chunks:
            _check_bytes_like(chunk)
        filled = [chunk for chunk in chunks if chunk] or [b""]
        if not self._closing:
            with suppress(OSError):  # write() meets it again
                for chunk in filled[:-1]:
                    self._conn.send(chunk)
        self.write(filled[-1])

    @property
    def sends_unread(self) -> bool:
        """Whether nobody in this process looks at what is sent: then it may be the text of a mapped file."""
        stack = self._stack
        return stack.offload.unread and stack.tracer is None and not stack.is_to_itself(self._conn)

    def write_shared(self, view: memoryview) -> None:
        """Write what `view` shows of somebody else's octets, which stay as they are until they are acknowledged.

        The view is of single octets and kept by reference. On a transport that is closing the data is dropped.
        """
        if self._closing:
            self._count_lost_write()
            return
        with suppress(OSError):  # _send() meets it again
            self._conn.send_shared(view)
        self._send(b"")

    def write_urgent(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """As `write`, and the peer is told that the stream is urgent up to the end of `data`, even where its window is
        closed. New protocols should not use it (RFC 6093 5)."""
        _check_bytes_like(data)
        if self._closing or self._eof_written:
            self.write(data)  # it has what is to be said of that
            return
        with suppress(OSError):  # _send() meets it again
            self._conn.send_urgent(data)
        self._send(b"")

    def write_eof(self) -> None:
        """Send FIN after what is queued; reading goes on."""
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        self._stack.shutdown(self._conn, self._driver.clock())
        self._driver.after_activity()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        """Octets that were written and not yet sent for the first time."""
        return 0 if self._detached else self._conn.unsent_bytes

    def close(self) -> None:
        """Send what is queued, then FIN; connection_lost(None) comes when all is sent, not yet received.

        Text that arrived and was not read makes it a reset instead of the FIN, once all is sent: the peer learns
        that it was not processed (RFC 9293 3.6.1, SHLD-3; RFC 2525 2.17).
        """
        if self._closing:
            return
        self._closing = True
        if self._conn.unsent_bytes:
            self._conn.awaits_sent = True
            if not (self._eof_written or self._lingers_not):
                # Now, so that the FIN goes with the last text.
                self._stack.shutdown(self._conn, self._driver.clock())
                self._driver.after_activity()
        self._release_when_sent()

    def abort(self) -> None:
        """End the connection now. What was queued and is not sent yet is lost, and then the peer gets a RST: it must
        not take what it has for all. Else it gets a FIN, as from a kernel, where programs close by this, too; and a
        RST where text that arrived was not read (see `close`), or SO_LINGER asks for one."""
        if self._detached or self._conn.error is not None or self._conn.unsent_bytes or self._lingers_not:
            self._force_close(None)
        else:
            self._stack.close(self._conn, self._driver.clock())
            self._end(None)

    def reset(self) -> None:
        """End the connection by a RST now; what was queued is lost. Not asyncio's: there it is SO_LINGER's."""
        self._force_close(None)

    # The driver's side

    def on_readiness(self, mask: int) -> None:
        if mask & URGENT:
            self._tell_urgent()
        if mask & (READABLE | EOF):
            self._pull()
        if mask & WRITABLE:
            self._on_sent()
        if mask & RESET:
            self._on_reset()

    def on_failure(self, error: BaseException) -> None:
        self._end(error)

    # What these use, in order of use

    @property
    def _lingers_not(self) -> bool:
        return self._socket is not None and self._socket.resets

    def _peername(self) -> SocketAddress:
        flow = self._conn.flow
        return socket_address(flow[2], flow[3])

    def _sockname(self) -> SocketAddress:
        flow = self._conn.flow
        return socket_address(flow[0], flow[1])

    def _count_lost_write(self) -> None:
        self._lost_writes += 1
        if self._lost_writes >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning("socket.send() raised exception.")

    def _release_when_sent(self) -> None:
        """After close(): leave the connection to the engine once nothing of ours waits to be sent."""
        conn = self._conn
        if self._detached or conn.unsent_bytes:
            return
        error = conn.error
        if error is None:
            end = self._stack.abort if self._lingers_not else self._stack.close
            end(conn, self._driver.clock())
        self._end(error)

    def _on_sent(self) -> None:
        if self._detached:
            return
        if self._protocol_paused:
            self._maybe_resume_protocol()
        if self._closing:
            self._release_when_sent()
        elif not self._protocol_paused:
            self._conn.awaits_sent = False

    def _on_reset(self) -> None:
        conn = self._conn
        if self._paused and conn.readable_bytes and not (self._closing or self._protocol_paused):
            # As a kernel's socket: what arrived before the reset is read first, and then the error.
            return
        self._end(conn.error)

    def _tell_urgent(self) -> None:
        if not self._closing and hasattr(self._protocol, "urgent_received"):
            self._call("urgent_received", self._conn.urgent_bytes)

    def _pull_resumed(self) -> None:
        self._pull_scheduled = False
        self._pull()
        self._driver.after_activity()

    def _pull(self) -> None:
        """Deliver what waits, then the end of it, for as long as the protocol reads."""
        conn = self._conn
        while conn.readable_bytes and not self._paused and not self._closing:
            if self._buffered:
                self._fill_buffer()
                continue
            chunks = self._stack.receive(conn, MAX_READ_BYTES, self._driver.clock())
            self._call("data_received", bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks))
        if self._paused or self._closing:
            return
        if conn.eof_received and not self._eof_delivered:
            self._eof_delivered = True
            if not self._call("eof_received"):
                self.close()
        if conn.error is not None:
            self._end(conn.error)

    def _fill_buffer(self) -> None:
        """One copy: from the memory that the packets arrived in to the protocol's own."""
        try:
            hint = min(self._conn.readable_bytes, MAX_READ_BYTES)
            view = memoryview(self._protocol.get_buffer(hint)).cast("B")
            if not view:
                raise RuntimeError("get_buffer() returned an empty buffer")
            if view.readonly:
                raise TypeError("get_buffer() returned a buffer that can't be written to")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.get_buffer() call failed.")
            return
        filled = 0
        with view:
            for chunk in self._stack.receive(self._conn, len(view), self._driver.clock()):
                view[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
        self._call("buffer_updated", filled)

    def _call(self, name: str, *args: object) -> Any:
        """Tell the protocol. Where it raises, the connection is reset, and the result is _FAILED, which is true."""
        try:
            return getattr(self._protocol, name)(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, f"Fatal error: protocol.{name}() call failed.")
            return _FAILED

    def _fatal_error(self, error: BaseException, message: str) -> None:
        """The protocol failed: report it, unless it is an OSError (as asyncio), and reset the connection."""
        if not isinstance(error, OSError):
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        if self._detached:
            return
        if self._conn.error is None:
            self._stack.abort(self._conn, self._driver.clock())
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """The connection is no longer ours; connection_lost follows in the next turn, once."""
        if self._detached:
            return
        self._detached = self._closing = True
        self._conn.awaits_sent = False
        self._driver.detach(self)
        self._loop.call_soon(self._call_connection_lost, error)
        self._driver.after_activity()

    def _call_connection_lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._protocol = None  # as asyncio: the two would keep each other alive
            on_lost, self._on_lost = self._on_lost, None
            if on_lost is not None:
                on_lost(self)

    def __repr__(self) -> str:
        open_ = "paused" if self._paused else "reading"
        how = "closed" if self._detached else "closing" if self._closing else open_
        return (
            f"<TcpTransport {self._sockname()} to {self._peername()} {STATE_NAMES[self._conn.state]} {how}, "
            f"unsent={self.get_write_buffer_size()}>"
        )
