"""Statistics on stored readings; no model in sight.

run = load("RUN")
summary = summarise(run)
"""

from analyses.frame import RunFrame, load
from analyses.results import Estimate
from analyses.summary import summarise

__all__ = ["Estimate", "RunFrame", "load", "summarise"]
