"""Statistics on stored readings; no model in sight.

run = load("RUN")
summary = summarise(run)
found = side_by_side({"ours": load("RUN"), "theirs": load("OTHER")})
"""

from override_gap.analyses.compare.methods import side_by_side
from override_gap.analyses.estimate import Estimate
from override_gap.analyses.readings import RunFrame, load
from override_gap.analyses.summary import summarise

__all__ = ["Estimate", "RunFrame", "load", "side_by_side", "summarise"]
