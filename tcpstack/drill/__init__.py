"""Drills: scripts in packetdrill's language, run against our engine in virtual time or against Linux in real time.

    text -> grammar.py -> Script -> runner.py -> a Side: engine.py or kernel.py

The runner judges; a Side only passes packets and calls on. So a script that passes on both shows that both do the
same. docs/drill.md has the language.
"""
