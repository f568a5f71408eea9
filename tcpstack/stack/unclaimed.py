"""Segments that no connection claims: CLOSED, LISTEN, SYN-RECEIVED after a passive open, and TIME-WAIT.

None of these states costs a Connection: there are listeners, SYN records and TIME-WAIT entries. What a segment does
to them are the rules of core/closed.py, core/listen.py and core/timewait.py; here they meet the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..core import listen, timewait
from ..core import state as st
from ..core.closed import answer_closed, is_connection_attempt
from ..core.config import Config
from ..core.events import SegmentIn, StateChange, Tracer
from ..core.listen import SynRecord
from ..core.segment import FourTuple, Segment
from ..core.tcb import Emit
from ..core.timewait import TimeWait
from .listener import SYN_QUEUE, Listener, Listeners
from .syn_queue import SynQueue
from .timewait import TimeWaitTable


class Unclaimed:
    """listeners, records, time_waits  the three tables

    mtu_towards (address) -> of the way there
    config      the stack's: for what is neither a connection's nor a listener's
    counters    refusals are counted in
    choose_iss  (flow, number that it must exceed or None, now_ns) -> ISS
    timestamp_offset  (flow) -> of its timestamp clock
    emit        takes (segment, state that it leaves from, now_ns, Config.ip_fields)
    establish   takes (record, listener, the segment that acknowledges our SYN, now_ns)
    """

    __slots__ = (
        "_choose_iss", "_config", "_counters", "_emit", "_establish", "_mtu_towards", "_timestamp_offset", "_tracer",
        "listeners", "records", "time_waits",
    )  # fmt: skip

    def __init__(
        self,
        mtu_towards: Callable[[bytes], int],
        config: Config,
        counters: Counter[str],
        tracer: Tracer | None,
        choose_iss: Callable[[FourTuple, int | None, int], int],
        timestamp_offset: Callable[[FourTuple], int],
        emit: Emit,
        establish: Callable[[SynRecord, Listener, Segment, int], None],
    ) -> None:
        self.listeners = Listeners()
        self.records = SynQueue()
        self.time_waits = TimeWaitTable()
        self._mtu_towards = mtu_towards
        self._config = config
        self._counters = counters
        self._tracer = tracer
        self._choose_iss = choose_iss
        self._timestamp_offset = timestamp_offset
        self._emit = emit
        self._establish = establish

    @property
    def deadline_ns(self) -> int:
        """When `on_timer` is due, NEVER for never. Can be early."""
        return min(self.records.deadline_ns, self.time_waits.deadline_ns)

    def __contains__(self, flow: FourTuple) -> bool:
        """Whether a SYN record or a TIME-WAIT entry has this name."""
        return flow in self.records or flow in self.time_waits

    def on_segment(self, segment: Segment, flow: FourTuple, now_ns: int) -> None:
        """A segment for us, and no connection has its name."""
        record = self.records.get(flow)
        if record is not None:
            self._on_record_segment(record, segment, now_ns)
            return
        entry = self.time_waits.get(flow)
        if entry is not None:
            self._on_time_wait_segment(entry, segment, now_ns)
        else:
            self._on_new_segment(segment, flow, None, now_ns)

    def on_timer(self, now_ns: int) -> None:
        """SYN,ACKs go again, records are given up, and TIME-WAITs end."""
        for record in self.records.due(now_ns):
            self._on_record_timer(record, now_ns)
        for flow in self.time_waits.expire(now_ns):
            self._trace_move(flow, st.TIME_WAIT, st.TIME_WAIT_TIMEOUT, now_ns)

    def close(self, listener: Listener, now_ns: int) -> None:
        """The listener is gone, and with it its records; their peers may think that they are connected already."""
        del self.listeners[listener.address, listener.port]
        for flow in tuple(self.records):
            local, lport, _, _ = flow
            if lport == listener.port and listener.covers(local):
                record = self.records.get(flow)
                assert record is not None
                self._drop_record(record, listener)
                self._trace_move(flow, st.SYN_RECEIVED, st.ABORT, now_ns)
                rst = listen.abort(record, "RST: the listener closed")
                self._emit(rst, st.CLOSED, now_ns, listener.config.ip_fields)

    # ------------------------------------------------------------------ CLOSED and LISTEN

    def _on_new_segment(self, segment: Segment, flow: FourTuple, replaced: TimeWait | None, now_ns: int) -> None:
        """3.10.7.1 and 3.10.7.2: nobody has this connection (but for a TIME-WAIT that the SYN may replace); perhaps
        somebody listens."""
        listener = self.listeners.find(segment.dst, segment.dport)
        if listener is None:
            self._trace_in(segment, flow, st.CLOSED, st.CLOSED, now_ns)
            self._answer(answer_closed(segment, "RST: nobody listens on this port"), st.CLOSED, now_ns, self._config)
        elif not is_connection_attempt(segment.flags):
            self._trace_in(segment, flow, st.LISTEN, st.LISTEN, now_ns)
            self._answer(listen.answer_listen(segment), st.LISTEN, now_ns, listener.config)
        elif listener.full or listener.records >= SYN_QUEUE:
            # Not refused: the peer sends its SYN again, and by then there may be room.
            self._counters["accept_queue_full" if listener.full else "syn_queue_full"] += 1
            state = st.LISTEN if replaced is None else st.TIME_WAIT
            self._trace_in(segment, flow, state, state, now_ns)
        else:
            self._open(segment, flow, listener, replaced, now_ns)

    def _open(
        self, segment: Segment, flow: FourTuple, listener: Listener, replaced: TimeWait | None, now_ns: int
    ) -> None:
        """A SYN becomes a record, and is answered."""
        iss = self._choose_iss(flow, None if replaced is None else replaced.snd_nxt, now_ns)
        if replaced is not None:
            self.time_waits.remove(flow)
            self._trace_move(flow, st.TIME_WAIT, st.RCV_NEWER_SYN, now_ns)
        mtu = self._mtu_towards(segment.src)
        record = SynRecord(segment, iss, mtu, listener.config, now_ns, self._timestamp_offset(flow))
        listener.records += 1
        self.records.add(record, replaced)
        self._trace_move(flow, st.LISTEN, st.RCV_SYN, now_ns)
        self._trace_in(segment, flow, st.LISTEN, st.SYN_RECEIVED, now_ns)
        syn_ack = listen.syn_ack(record, listener.config, "SYN,ACK: answers the SYN with our ISN", now_ns)
        self._emit(syn_ack, st.SYN_RECEIVED, now_ns, listener.config.ip_fields)

    # ------------------------------------------------------------------ SYN-RECEIVED

    def _on_record_segment(self, record: SynRecord, segment: Segment, now_ns: int) -> None:
        listener = self._listener_of(record)
        verdict, answer = listen.on_syn_received(record, segment, listener.config, now_ns)
        if verdict == listen.ESTABLISH and listener.full:
            # As Linux: the handshake is left unfinished, and our SYN,ACK again makes the peer repeat its ACK.
            self._counters["accept_queue_full"] += 1
            verdict = listen.STAY
        after = st.SYN_RECEIVED
        if verdict == listen.ESTABLISH:
            self._drop_record(record, listener)
            self._establish(record, listener, segment, now_ns)
            return
        if verdict == listen.STAY:
            self.records.update(record)
        else:
            after = st.LISTEN
            replaced = self._drop_record(record, listener)
            self._trace_move(record.flow, st.SYN_RECEIVED, st.RCV_RST_OR_SYN_PASSIVE, now_ns)
            if replaced is not None:
                self.time_waits.restart(replaced, now_ns)  # MAY-2, condition 2
        self._trace_in(segment, record.flow, st.SYN_RECEIVED, after, now_ns)
        self._answer(answer, after, now_ns, listener.config)

    def _on_record_timer(self, record: SynRecord, now_ns: int) -> None:
        listener = self._listener_of(record)
        answer = listen.on_syn_received_timer(record, listener.config, now_ns)
        if answer is None:
            self._drop_record(record, listener)
            self._trace_move(record.flow, st.SYN_RECEIVED, st.USER_TIMEOUT, now_ns)
            return
        self.records.rearm(record)
        self._emit(answer, st.SYN_RECEIVED, now_ns, listener.config.ip_fields)

    def _listener_of(self, record: SynRecord) -> Listener:
        listener = self.listeners.find(record.flow[0], record.flow[1])
        assert listener is not None  # whoever closes takes his records along
        return listener

    def _drop_record(self, record: SynRecord, listener: Listener) -> TimeWait | None:
        listener.records -= 1
        return self.records.remove(record.flow)

    # ------------------------------------------------------------------ TIME-WAIT

    def _on_time_wait_segment(self, entry: TimeWait, segment: Segment, now_ns: int) -> None:
        flow = entry.flow
        listening = self.listeners.find(segment.dst, segment.dport) is not None
        verdict, answer = timewait.on_time_wait(entry, segment, listening, self._config.challenge_ack_ns, now_ns)
        if verdict == timewait.NEW_INCARNATION:
            self._on_new_segment(segment, flow, entry, now_ns)
            return
        after = st.TIME_WAIT
        if verdict == timewait.RESTART:
            self.time_waits.restart(entry, now_ns)
        elif verdict == timewait.GONE:
            after = st.CLOSED
            self.time_waits.remove(flow)
            self._trace_move(flow, st.TIME_WAIT, st.RCV_RST, now_ns)
        else:
            self.time_waits.update(entry)
        self._trace_in(segment, flow, st.TIME_WAIT, after, now_ns)
        self._answer(answer, after, now_ns, self._config)

    # ------------------------------------------------------------------ what is said and seen

    def _answer(self, segment: Segment | None, state: int, now_ns: int, config: Config) -> None:
        if segment is not None:
            self._emit(segment, state, now_ns, config.ip_fields)

    def _trace_in(self, segment: Segment, flow: FourTuple, before: int, after: int, now_ns: int) -> None:
        if self._tracer is not None:
            self._tracer(SegmentIn(now_ns, flow, segment, before, after))

    def _trace_move(self, flow: FourTuple, before: int, cause: str, now_ns: int) -> None:
        if self._tracer is not None:
            self._tracer(StateChange(now_ns, flow, before, st.TRANSITIONS[before, cause], cause))
