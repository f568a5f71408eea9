"""A complete TCP that lives in a Python process, behind a TUN device, with asyncio on top.

    async with tcpstack.open_tun("tun0", "10.9.0.2/24") as stack:
        server = await stack.start_server(on_client, port=80)
        reader, writer = await stack.open_connection("10.9.0.1", 8000)

Names are loaded when they are first used: `import tcpstack` alone imports neither asyncio nor dpkt, so that
the engine (tcpstack.core) can be had without either.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aio.host import Host
    from .aio.opening import open_memory_pair, open_tun
    from .aio.server import Server
    from .aio.transport import TcpTransport
    from .aio.virtual import DeadlockError, NotVirtual, Simulation
    from .core.config import Config
    from .core.events import Event, Tracer
    from .device.base import Device, DeviceError
    from .device.faults import FaultRuleError

__version__ = "0.1.0"

__all__ = [
    "Config",
    "DeadlockError",
    "Device",
    "DeviceError",
    "Event",
    "FaultRuleError",
    "Host",
    "NotVirtual",
    "Server",
    "Simulation",
    "TcpTransport",
    "Tracer",
    "__version__",
    "open_memory_pair",
    "open_tun",
]

_HOMES = {
    "Config": "core.config",
    "DeadlockError": "aio.virtual",
    "Device": "device.base",
    "DeviceError": "device.base",
    "Event": "core.events",
    "FaultRuleError": "device.faults",
    "Host": "aio.host",
    "NotVirtual": "aio.virtual",
    "Server": "aio.server",
    "Simulation": "aio.virtual",
    "TcpTransport": "aio.transport",
    "Tracer": "core.events",
    "open_memory_pair": "aio.opening",
    "open_tun": "aio.opening",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
