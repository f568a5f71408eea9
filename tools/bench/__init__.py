"""How fast this version is, against what the machine could do at best: `python -m tools.bench`.

One peer and several servers. The peer is always the kernel's TCP, driven by plain sockets in a process of its own
(kernel_peer.py), and it is the peer that measures. The servers offer the same services (services.py), each in a
process of its own, so that its CPU time can be read and its CPU chosen:

    bare       a loop over the TUN descriptor that answers and is no TCP (bare_loop.py): the ceiling
    protocol   tcpstack on uvloop, served by an asyncio.Protocol (applications.py)
    streams    tcpstack on uvloop, served by StreamReader and StreamWriter (applications.py)
    kernel     the same program with streams on the kernel's TCP, over a veth pair (veth.py)
    mitmproxy  the same program with streams on mitmproxy-rs (mitmproxy_server.py), where asked for (peers.py)
    pytcp      the services on pmd-pytcp (pytcp_server.py), where asked for (peers.py)

The first three also with "-no-offload": then each packet crosses the TUN by itself and complete.

session.py runs them in turns, so that a noisy minute on the machine is everybody's. memory.py counts, without a peer,
what a connection takes; simulation.py, how fast simulated time passes. report.py tells the result in tables, chart.py
in bars.
"""
