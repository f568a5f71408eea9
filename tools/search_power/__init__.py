"""How good is the search (tcpstack/sim/search)? Takes behaviours out of the engine, and sees whether it notices.

    python -m tools.search_power                      the mutants of tools/conformance, and 300 that are drawn
    python -m tools.search_power --cases 1000 --drawn 0 MUST-37
"""
