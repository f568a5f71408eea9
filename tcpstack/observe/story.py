"""What each segment of a conversation says, in words: relative numbers, options, what it acknowledges.

All of it is read off the segments alone, as a person with a capture would do it.
"""

from __future__ import annotations

from typing import NamedTuple

from ..core.handshake import TIMESTAMPS_BYTES
from ..core.segment import ACK, FIN, PSH, RST, SYN, URG, Options, Segment, SegmentOptions, flag_names
from ..core.seq import MASK, unwrap
from ..core.state import SYN_SENT

_DEFAULT_MSS = {4: 536, 16: 1220}  # by the length of an address (RFC 9293 3.7.1)
_MAX_SHIFT = 14  # RFC 7323 2.3: a larger one is taken as 14


class End:
    """What one end has said so far. Numbers are relative to its ISN and unbounded.

    isn      its initial sequence number as on the wire, or None before its SYN
    options  those of its SYN
    top      the number after the last octet that it sent
    acked    up to where it acknowledged the *other* end
    fin_end  the number after its FIN, or None
    window   the last window it announced, in octets; None before the first
    """

    __slots__ = ("acked", "fin_end", "isn", "options", "top", "window")

    def __init__(self) -> None:
        self.isn: int | None = None
        self.options: SegmentOptions | None = None
        self.top = 0
        self.acked = 0
        self.fin_end: int | None = None
        self.window: int | None = None


class Told(NamedTuple):
    """What one segment says.

    label    the control bits and the numbers, in the order of their importance
    facts    what it states: ISN and options, where urgent text ends
    meaning  what it does, as phrases whose subject is its sender
    """

    label: list[str]
    facts: list[str]
    meaning: list[str]


class Story:
    """Two ends' words to each other. `tell` is called once for each segment, in order."""

    __slots__ = ("_agreed", "_line_ended", "_speaker", "ours", "theirs")

    def __init__(self) -> None:
        self.ours = End()
        self.theirs = End()
        self._agreed = False
        self._speaker: bool | None = None  # who sent the last text: True where it was us
        self._line_ended = True  # and whether it was pushed

    def tell(self, segment: Segment, *, out: bool, our_state: int | None) -> Told:
        """Take in a segment that was sent while our end was in `our_state`, and say what it says."""
        sender, other, whose = (self.ours, self.theirs, "its") if out else (self.theirs, self.ours, "our")
        facts: list[str] = []
        if segment.flags & SYN and not segment.flags & RST:
            first = sender.isn is None
            if first:
                sender.isn = segment.seq
                sender.options = segment.options
                facts.append(f"ISN {segment.seq}")
                facts.append(f"offers {offers(segment.options)}")
        window = self._window(segment, sender, other)
        if segment.flags & RST:
            refused = our_state == SYN_SENT and segment.flags & ACK and not out
            meaning = ["refuses: nobody listens on that port" if refused else "resets the connection"]
        else:
            meaning = self._meaning(segment, sender, other, whose, first=bool(facts), window=window)
        sender.window = window
        if segment.flags & (URG | RST) == URG:
            facts.append(f"urgent text ends before seq {_shown(segment.seq + segment.up & MASK, sender.isn)}")
        return Told(self._label(segment, sender, other, window), facts, meaning)

    def seen_before(self, segment: Segment, *, out: bool) -> bool:
        """All that the segment occupies in sequence space was sent before (ask before telling it)."""
        sender = self.ours if out else self.theirs
        if not segment.len or sender.isn is None:
            return False
        start = _relative(segment.seq, sender.isn, sender.top)
        return start is not None and start + segment.len <= sender.top

    def place(self, segment: Segment, *, out: bool) -> str:
        """Where a segment stands among those of its sender, whether or not that has been told: "seq 4097"."""
        isn = (self.ours if out else self.theirs).isn
        return f"seq {_shown(segment.seq, segment.seq if isn is None and segment.flags & SYN else isn)}"

    def begins_text(self, segment: Segment, *, out: bool) -> bool:
        """The segment's text does not merely continue that of the segment before: it is worth a look."""
        if not segment.payload_len:
            return False
        begins = self._line_ended or self._speaker is not out
        self._speaker = out
        self._line_ended = bool(segment.flags & PSH)
        return begins

    def agreement(self, us: str, peer: str, address_length: int) -> str:
        """Which options are in force, said once when both SYNs were seen; "" before and after that."""
        ours, theirs = self.ours.options, self.theirs.options
        if self._agreed or self.ours.isn is None or self.theirs.isn is None:
            return ""
        self._agreed = True
        ours, theirs = ours or Options(), theirs or Options()
        default = _DEFAULT_MSS[address_length]
        agreed = []
        if ours.wscale is not None and theirs.wscale is not None:
            scales = [1 << min(shift, _MAX_SHIFT) for shift in (ours.wscale, theirs.wscale)]
            agreed.append(f"window scale (×{scales[0]} for windows of {us}, ×{scales[1]} for those of {peer})")
        unused: dict[str, list[str]] = {}
        for name, mine, its in (
            ("window scale", ours.wscale is not None, theirs.wscale is not None),
            ("SACK", ours.sack_permitted, theirs.sack_permitted),
            ("timestamps", ours.timestamps is not None, theirs.timestamps is not None),
        ):
            if mine != its:
                unused.setdefault(us if mine else peer, []).append(name)
            elif mine and name != "window scale":
                agreed.append(name)
        taken = TIMESTAMPS_BYTES if "timestamps" in agreed else 0
        to_us, to_peer = (ours.mss or default) - taken, (theirs.mss or default) - taken
        agreed.append(f"segments of at most {to_us} octets to {us}, {to_peer} to {peer}")
        text = "in force: " + "; ".join(agreed)
        if unused:
            alone = (f"{' and '.join(names)} (offered by {end} alone)" for end, names in unused.items())
            text += "; not in force: " + ", ".join(alone)
        return text

    @staticmethod
    def _window(segment: Segment, sender: End, other: End) -> int:
        """The window that the segment announces, in octets."""
        mine, its = sender.options, other.options
        if segment.flags & SYN or mine is None or its is None or mine.wscale is None or its.wscale is None:
            return segment.wnd
        return segment.wnd << min(mine.wscale, _MAX_SHIFT)

    @staticmethod
    def _label(segment: Segment, sender: End, other: End, window: int) -> list[str]:
        label = [flag_names(segment.flags), f"seq {_shown(segment.seq, sender.isn)}"]
        if segment.flags & ACK:
            label.append(f"ack {_shown(segment.ack, other.isn)}")
        if segment.payload_len:
            label.append(f"len {segment.payload_len}")
        label.append(f"win {window}")
        if segment.options is not None:
            for left, right in segment.options.sack:
                label.append(f"sack {_shown(left, other.isn)}:{_shown(right, other.isn)}")
        return label

    def _meaning(
        self, segment: Segment, sender: End, other: End, whose: str, *, first: bool, window: int
    ) -> list[str]:
        flags = segment.flags
        said = []
        if flags & SYN:
            verb = "agrees" if flags & ACK else "asks"
            said.append(f"{verb} to open a connection" if first else f"{verb} again")
        start = _relative(segment.seq, sender.isn, sender.top)
        if start is None:
            return said
        said += self._text_told(segment, sender, start)
        if flags & ACK:
            said += self._ack_told(segment, sender, other, whose, window, old=start < sender.top)
        end = start + segment.len
        if flags & FIN and sender.fin_end is None:
            sender.fin_end = end
            said.append("has nothing more to send (FIN)")
        sender.top = max(sender.top, end)
        return said

    @staticmethod
    def _text_told(segment: Segment, sender: End, start: int) -> list[str]:
        if not segment.len or segment.flags & SYN:
            return []
        if start + segment.len <= sender.top:
            return ["sent before"]
        if start > sender.top:
            return [f"ahead of its turn: {start - sender.top} octets before it are missing"]
        return []

    @staticmethod
    def _ack_told(
        segment: Segment, sender: End, other: End, whose: str, window: int, *, old: bool
    ) -> list[str]:
        acked = _relative(segment.ack, other.isn, sender.acked)
        if acked is None:
            return []
        if acked > sender.acked:
            what = _span(sender.acked, acked, other)
            sender.acked = acked
            return [f"acknowledges {whose} {what}"] + (["no more room (window 0)"] if window == 0 else [])
        if segment.len or sender.window is None:
            return []
        if old:
            return ["a probe: an old number, to be answered with an acknowledgement"]
        if window != sender.window:
            return [f"window update: room for {window} octets"]
        if other.top > acked:
            return [f"still waits for seq {acked}: a duplicate acknowledgement"]
        return ["repeats its acknowledgement"]


def offers(options: SegmentOptions | None) -> str:
    """The options of a SYN in words: "mss 1460, window scale 7, SACK, timestamps", or "no options"."""
    if options is None:
        return "no options"
    words = []
    if options.mss is not None:
        words.append(f"mss {options.mss}")
    if options.wscale is not None:
        words.append(f"window scale {options.wscale}")
    if options.sack_permitted:
        words.append("SACK")
    if options.timestamps is not None:
        words.append("timestamps")
    words += [f"option kind {kind}" for kind in options.unknown]
    if options.malformed:
        words.append("a malformed option")
    return ", ".join(words) or "no options"


def _span(start: int, end: int, other: End) -> str:
    """What of the other end's sequence space lies between two acknowledgements: its SYN, octets, its FIN."""
    syn = start == 0
    fin = other.fin_end is not None and start < other.fin_end <= end
    count = end - start - syn - fin
    words = ["SYN"] * syn + [f"{count} octet{'s' * (count != 1)}"] * (count > 0) + ["FIN"] * fin
    return " and ".join(words)


def _relative(number: int, isn: int | None, top: int) -> int | None:
    return None if isn is None else unwrap((number - isn) & MASK, top)


def _shown(number: int, isn: int | None) -> int:
    """A number as the ladder shows it: relative to its ISN modulo 2^32; as on the wire if that is unknown."""
    return number if isn is None else (number - isn) & MASK
