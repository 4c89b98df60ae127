"""Statistics on stored readings; no model in sight.

run = load("RUN")
summary = summarise(run)
found = side_by_side({"ours": load("RUN"), "theirs": load("OTHER")})
"""

from analyses.compare.methods import side_by_side
from analyses.estimate import Estimate
from analyses.readings import RunFrame, load
from analyses.summary import summarise

__all__ = ["Estimate", "RunFrame", "load", "side_by_side", "summarise"]
