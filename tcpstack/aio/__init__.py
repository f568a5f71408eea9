"""asyncio on the engine: a driver for the event loop, transports, servers, and the host that has them all."""
