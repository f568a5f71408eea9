"""The connection's states and the one table of transitions between them (RFC 9293 3.3.2 and 3.10).

`TRANSITIONS[state, event]` is the state that follows. The engine changes state through this table only;
the ladder runs the same table over what it sees to infer the peer's state; the state diagram in
docs/architecture.md is drawn from it; a test holds it to the RFC's text and to what the engine does.
A pair that is absent means "stays where it is".
"""

from __future__ import annotations

CLOSED = 0
LISTEN = 1
SYN_SENT = 2
SYN_RECEIVED = 3
ESTABLISHED = 4
FIN_WAIT_1 = 5
FIN_WAIT_2 = 6
CLOSE_WAIT = 7
CLOSING = 8
LAST_ACK = 9
TIME_WAIT = 10

STATE_NAMES = (
    "CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1",
    "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT",
)  # fmt: skip

# User calls.
PASSIVE_OPEN = "passive OPEN"
ACTIVE_OPEN = "active OPEN"
CLOSE = "CLOSE"
ABORT = "ABORT"
# Segments that arrive and are acceptable.
RCV_SYN = "SYN arrives"
RCV_SYN_ACK = "SYN,ACK arrives"
RCV_ACK_OF_SYN = "ACK of our SYN arrives"
RCV_FIN = "FIN arrives"
RCV_ACK_OF_FIN = "ACK of our FIN arrives"
RCV_RST = "RST arrives"
RCV_RST_OR_SYN_PASSIVE = "RST or SYN arrives, after a passive OPEN"
RCV_NEWER_SYN = "SYN of a new incarnation arrives"
RCV_UNREACHABLE = "ICMP unreachable arrives"
# Time.
USER_TIMEOUT = "user timeout"
TIME_WAIT_TIMEOUT = "2 MSL pass"
ORPHAN_TIMEOUT = "FIN-WAIT-2 limit passes, application gone"
KEEPALIVE_TIMEOUT = "keep-alives go unanswered"

USER_CALLS = frozenset({PASSIVE_OPEN, ACTIVE_OPEN, CLOSE, ABORT})
TIMEOUTS = frozenset({USER_TIMEOUT, TIME_WAIT_TIMEOUT, ORPHAN_TIMEOUT, KEEPALIVE_TIMEOUT})

TRANSITIONS: dict[tuple[int, str], int] = {
    (CLOSED, PASSIVE_OPEN): LISTEN,
    (CLOSED, ACTIVE_OPEN): SYN_SENT,

    (LISTEN, RCV_SYN): SYN_RECEIVED,
    (LISTEN, CLOSE): CLOSED,
    (LISTEN, ABORT): CLOSED,

    (SYN_SENT, RCV_SYN_ACK): ESTABLISHED,
    (SYN_SENT, RCV_SYN): SYN_RECEIVED,          # simultaneous open
    (SYN_SENT, RCV_RST): CLOSED,
    (SYN_SENT, RCV_UNREACHABLE): CLOSED,        # RFC 5461 4.2, as Linux: do not wait out the timer
    (SYN_SENT, CLOSE): CLOSED,
    (SYN_SENT, ABORT): CLOSED,
    (SYN_SENT, USER_TIMEOUT): CLOSED,

    (SYN_RECEIVED, RCV_ACK_OF_SYN): ESTABLISHED,
    (SYN_RECEIVED, RCV_RST_OR_SYN_PASSIVE): LISTEN,
    (SYN_RECEIVED, RCV_RST): CLOSED,            # after an active OPEN
    (SYN_RECEIVED, CLOSE): FIN_WAIT_1,
    (SYN_RECEIVED, ABORT): CLOSED,
    (SYN_RECEIVED, USER_TIMEOUT): CLOSED,

    (ESTABLISHED, CLOSE): FIN_WAIT_1,
    (ESTABLISHED, RCV_FIN): CLOSE_WAIT,
    (ESTABLISHED, RCV_RST): CLOSED,
    (ESTABLISHED, ABORT): CLOSED,
    (ESTABLISHED, USER_TIMEOUT): CLOSED,
    (ESTABLISHED, KEEPALIVE_TIMEOUT): CLOSED,   # MAY-5; in the states where nothing of ours is outstanding

    (FIN_WAIT_1, RCV_ACK_OF_FIN): FIN_WAIT_2,
    (FIN_WAIT_1, RCV_FIN): CLOSING,             # simultaneous close
    (FIN_WAIT_1, RCV_RST): CLOSED,
    (FIN_WAIT_1, ABORT): CLOSED,
    (FIN_WAIT_1, USER_TIMEOUT): CLOSED,

    (FIN_WAIT_2, RCV_FIN): TIME_WAIT,
    (FIN_WAIT_2, RCV_RST): CLOSED,
    (FIN_WAIT_2, ABORT): CLOSED,
    (FIN_WAIT_2, KEEPALIVE_TIMEOUT): CLOSED,
    (FIN_WAIT_2, ORPHAN_TIMEOUT): CLOSED,       # not in the RFC: an orphan must not wait for ever

    (CLOSE_WAIT, CLOSE): LAST_ACK,
    (CLOSE_WAIT, RCV_RST): CLOSED,
    (CLOSE_WAIT, ABORT): CLOSED,
    (CLOSE_WAIT, USER_TIMEOUT): CLOSED,
    (CLOSE_WAIT, KEEPALIVE_TIMEOUT): CLOSED,

    (CLOSING, RCV_ACK_OF_FIN): TIME_WAIT,
    (CLOSING, RCV_RST): CLOSED,
    (CLOSING, ABORT): CLOSED,
    (CLOSING, USER_TIMEOUT): CLOSED,

    (LAST_ACK, RCV_ACK_OF_FIN): CLOSED,
    (LAST_ACK, RCV_RST): CLOSED,
    (LAST_ACK, ABORT): CLOSED,
    (LAST_ACK, USER_TIMEOUT): CLOSED,

    (TIME_WAIT, TIME_WAIT_TIMEOUT): CLOSED,
    (TIME_WAIT, RCV_RST): CLOSED,
    (TIME_WAIT, RCV_NEWER_SYN): CLOSED,         # MAY-2: the listener answers the SYN
    (TIME_WAIT, ABORT): CLOSED,
}  # fmt: skip
