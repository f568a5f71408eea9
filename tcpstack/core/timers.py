"""Deadlines are integers of monotonic nanoseconds; NEVER is later than each of them, so that min() just works."""

NEVER = 1 << 63
