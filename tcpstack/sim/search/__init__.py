"""The search for bugs: random networks, faults and programs on the real engine, checked after every event.

A Case (case.py) is drawn from a seed (drawing.py) and says everything about a run; playing it (play.py) either comes to
a Result or raises Violation; a failing case is shrunk (shrink.py) to a small one, which can be kept as a script
(script.py). Run, that shows what goes wrong (replay.py).
"""

from __future__ import annotations

from .case import Attack, Case, Plan, Talk
from .drawing import draw_case
from .known import Violation
from .play import Result, play
from .replay import show
from .shrink import shrink

__all__ = ["Attack", "Case", "Plan", "Result", "Talk", "Violation", "draw_case", "play", "show", "shrink"]
