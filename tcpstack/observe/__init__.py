"""What can be seen: events and packets in, pictures out. Nothing in here influences a connection."""

from .fanout import fan_out
from .ladder import Ladder
from .pcapng import PacketTap, PcapngWriter
from .peer import KnownPeers, PeerInference
from .summary import Summary, summary_line

__all__ = [
    "KnownPeers",
    "Ladder",
    "PacketTap",
    "PcapngWriter",
    "PeerInference",
    "Summary",
    "fan_out",
    "summary_line",
]
