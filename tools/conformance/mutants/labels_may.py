"""MAY-1 to MAY-18, those that were taken."""

from __future__ import annotations

from ..mutate import Mutant

MAY: tuple[Mutant, ...] = (
    Mutant("MAY-1", "text that comes after close is taken",
           "            if self._orphaned and end > receiver.nxt:", "            if False:"),
    Mutant("MAY-2", "no SYN ends TIME-WAIT", "        return NEW_INCARNATION, None", "        pass"),
    Mutant("MAY-2", "the ISN is not larger", "        return (floor + 1) & MASK", "        return (floor - 1) & MASK"),
    Mutant("MAY-2", "an old duplicate ends TIME-WAIT for good", "self.time_waits.restart(replaced, now_ns)", "pass"),
    Mutant("MAY-3", "an MSS option only where it is asked for",
           "        our_mss, window", "        our_mss if answering else None, window"),
    Mutant("MAY-4", "each packet has its own identification",
           "0x45, traffic_class, 20 + tcp_len, ident, DONT_FRAGMENT, hop_limit, PROTOCOL_TCP, complement(ip_total)",
           "0x45, traffic_class, 20 + tcp_len, segment.packet_id, DONT_FRAGMENT, hop_limit, PROTOCOL_TCP, "
           "complement(ip_total + segment.packet_id)"),
    Mutant("MAY-5", "nobody is asked",
           "            self._output.keepalive(keepalive.reason, now_ns)\n", "            pass\n"),
    Mutant("MAY-5", "nobody is given up", "            return DEAD\n", "            return QUIET\n"),
    Mutant("MAY-8", "a segment is always on offer",
           "        wnd = offered - nxt\n", "        wnd = max(offered - nxt, self.mss)\n"),
    Mutant("MAY-12", "any old ACK will do",
           "ack is None or not sender.una - sender.max_wnd <= ack <= sender.nxt", "ack is None"),
    Mutant("MAY-13", "text above a gap is not acknowledged",
           '        reason = "duplicate ACK: text above a gap"\n', "        return\n"),
    Mutant("MAY-16", "each write leaves at once", "or sender.una >= sender.small_end)", "or True)"),
)  # fmt: skip
