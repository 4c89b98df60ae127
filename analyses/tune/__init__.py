"""Tuning: which policy and gain to use under a budget, chosen by cross-validation from stored readings."""

from override_gap.analyses.tune.budget import Budget as Budget
from override_gap.analyses.tune.choice import Choice as Choice
from override_gap.analyses.tune.choose import choose as choose
