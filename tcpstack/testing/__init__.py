"""What tests of programs stand on: connected pairs, a namespace, and a recording of what was on the wire.

pytest_plugin.py has them as fixtures; nothing here needs pytest. docs/testing.md tells how to use them.
"""
