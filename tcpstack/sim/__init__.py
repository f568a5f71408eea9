"""A deterministic network in one process: the real engine at each end, links and routers between, one virtual clock.

No root, no TUN, no sleeping, no asyncio: see aio/virtual.py for programs that want an event loop.
"""
