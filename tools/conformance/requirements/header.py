"""Sections 3.1 to 3.4: the header, its options, sequence numbers."""

from __future__ import annotations

from ..model import Requirement, met

HEADER: tuple[Requirement, ...] = (
    met("MUST-1", "3.1", "A window field is unsigned: 0x8000 and above are large windows, not negative ones.",
        "dpkt_codec.py:decode", "Sender.set_window"),
    met("REC-1", "3.1", "Windows are kept and computed with at least 32 bits.", "Sender", "Receiver"),
    met("MUST-2", "3.1", "Each segment that leaves has a checksum.",
        "dpkt_codec.py:encode", "fast_codec.py:encode"),
    met("MUST-3", "3.1", "The checksum of each segment that arrives is verified, and one that is wrong is dropped.",
        "dpkt_codec.py:_segment_from", "fast_codec.py:_plain_tcp"),
    met("MUST-69", "3.1", "Behind an End of Option List there are only zeros: we end no list early, and pad with NOPs.",
        "dpkt_codec.py:encode_options"),
    met("MUST-4", "3.1", "End of Option List, No-Operation and Maximum Segment Size are understood.",
        "dpkt_codec.py:decode_options"),
    met("MUST-5", "3.1", "Options may come with any segment, whatever its flags and the state it arrives in.",
        "dpkt_codec.py:_segment_from"),
    met("MUST-6", "3.1", "An unknown option is skipped by its length, and what follows it counts.", "_set_option"),
    met("MUST-68", "3.1", "All options but End of Option List and No-Operation carry their length.",
        "dpkt_codec.py:encode_options"),
    met("MUST-7", "3.1", "An illegal option length harms nothing: what stands before it counts, the rest does not.",
        "dpkt_codec.py:decode_options"),
    met("MUST-64", "3.2", "Options are read wherever they begin, on a word boundary or not.",
        "dpkt_codec.py:decode_options"),
    met("MUST-65", "3.2", "The MSS option goes with SYNs and with no other segment.", "syn_options", "Output._syn"),
    met("MUST-66", "3.4", "RST and URG are processed while our window is zero.",
        "Connection._unacceptable", "Connection._check_rst", "Connection._check_urg"),
)  # fmt: skip
