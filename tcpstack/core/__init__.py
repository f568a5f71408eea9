"""TCP itself, sans-IO: segments, user calls and ``now_ns`` in; a readiness mask, segments and one deadline out.

Nothing in here knows a clock, randomness, I/O, asyncio, dpkt or logging (a contract that CI checks).
Read `connection.py` beside RFC 9293 section 3.10: it follows that section's order.
"""
