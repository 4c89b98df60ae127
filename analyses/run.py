"""A stored run with its analyses as methods.

run = load("runs/mine")
run.verdict()                # prints and shows itself, with its shares
run.outcomes()               # a DataFrame: success per split, tier, condition, measure and population
run.prior_gradient().frame() # every result has frame(), summary() and as_json()
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from override_gap.analyses import (
    belief,
    components,
    constancy,
    criterion,
    dose_response,
    gain_path,
    geometry_effects,
    hypotheses,
    layers,
    matched_retention,
    measures,
    neutral_text,
    nulls,
    outcomes,
    prior_dose,
    prior_gradient,
    published,
    readings,
    robustness,
    sampling,
    stored_geometry,
    strength,
    summary,
    verdict,
)
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.hypothesis import Hypothesis, Results
from override_gap.analyses.readings import DELIVERED, RunFrame
from override_gap.analyses.results import ResultRows, ResultSection
from override_gap.analyses.sensitivity import Sensitivity, sensitivity
from override_gap.analyses.tune.choice import Choice
from override_gap.analyses.tune.run import tune

SHOWN_BY: Callable[[dict[str, Any]], str] | None = None
"""What makes HTML of a summary for a notebook. The reports stand above this package; the front door sets it."""


def load(path: str | Path) -> Run:
    """Read a run folder. Raises ValueError, which says what is missing or damaged, where the folder is no complete run."""
    return Run.of(readings.load(path))


@dataclass(frozen=True, eq=False, repr=False)
class Run(RunFrame):
    """One run: its tables (`readings`, `layers`, `drawn`, `search`, `extra`, `manifest`) and its analyses.

    An analysis gives a result with `frame()`, a table, `summary()`, the text that it prints, and `as_json()`, its part of
    summary.json; or None where this run does not allow it. `outcomes` gives its table at once.
    """

    @classmethod
    def of(cls, run: RunFrame) -> Run:
        """The same tables, with the analyses as methods."""
        return cls(**{field.name: getattr(run, field.name) for field in fields(RunFrame)})

    def __repr__(self) -> str:
        subject, adapters = (self.manifest.get(key) or {} for key in ("subject", "adapters"))
        about = f"{subject.get('name', 'unknown model')} with {adapters.get('name', 'unknown adapters')}"
        return f"Run of {about}: {self.readings['item'].nunique()} items, conditions {', '.join(self.conditions)}"

    def _repr_html_(self) -> str:
        """The run's first screen in a notebook, where the front door has given `SHOWN_BY`; else its text."""
        if SHOWN_BY is None:
            return f"<pre>{html.escape(self.summary())}</pre>"
        return SHOWN_BY(self._summary)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        return self.as_json(int(self.manifest.get("seed") or 0))

    def verdict(self) -> verdict.Verdict:
        """Do failures come of the adapter's magnitude, so that another gain repairs them? The label, its sentence, its shares."""
        return verdict.verdict(self)

    def outcomes(self) -> pd.DataFrame:
        """Success rate per split, tier, condition, measure and population: one row each, with its interval."""
        return outcomes.outcomes(self).frame()

    def hypotheses(self, tested: Sequence[Hypothesis] | None = None) -> Results:
        """The standard hypotheses, or those given, with their statuses."""
        return hypotheses.evaluate(self, tested)

    def prior_gradient(
        self, condition: str = DELIVERED, measure: str = "top1", seed: int = 0
    ) -> prior_gradient.PriorGradient | None:
        """Failure against prior strength: quartiles, their gap, a logistic regression, the area under the curve."""
        return prior_gradient.prior_gradient(self, condition, measure, seed)

    def margins(self, seed: int = 0) -> ResultSection | None:
        """Prior margin, adapter margin, push and pull of conflicts (nats): spread, slopes, constancy."""
        return constancy.margins(self, seed)

    def prior_dose(self) -> ResultSection | None:
        """The prior changed by a dose and the adapter unchanged: causal pass-through, failures by dose, controls."""
        return prior_dose.prior_dose(self)

    def null_comparisons(self) -> ResultRows | None:
        """The item's own adapter against null adapters over the failing conflicts: held, rescued, push; paired."""
        return nulls.null_comparisons(self)

    def strength(self) -> ResultSection | None:
        """Adapter margin over prior margin, update norm over weight norm, and the gain that breaks the model."""
        return strength.strength(self)

    def geometry(self) -> ResultSection | None:
        """The adapters against each other: how much of each is its document's own, and whether all share one."""
        return stored_geometry.geometry(self)

    def neutral_text(self) -> ResultSection | None:
        """What the adapters change on text that has nothing to do with their documents."""
        return neutral_text.neutral_text(self)

    def geometry_effects(self, seed: int = 0) -> ResultRows | None:
        """What an adapter is beside what it does: rank correlations over documents."""
        return geometry_effects.geometry_effects(self, seed)

    def dose_response(self, seed: int = 0) -> ResultSection | None:
        """Success against the gain, and the critical gains of the failures."""
        return dose_response.dose(self, seed)

    def matched_retention(self, seed: int = 0) -> ResultSection | None:
        """Each policy against uniform scaling that keeps as many unrelated answers."""
        return matched_retention.matched_retention(self, seed)

    def layer_profile(self, seed: int = 0) -> ResultSection | None:
        """Norm, attribution and effect per layer, and the layers that the policies chose."""
        return layers.layers(self, seed)

    def gain_path(self, seed: int = 0) -> ResultSection | None:
        """The adapter margin along the path of gains: by layer, map and part, and which readings choose the right layers."""
        return gain_path.gain_path(self, seed)

    def components(self, seed: int = 0) -> ResultSection | None:
        """Attention, MLP and heads: what updates write, and what the base's own layers add to it or take back."""
        return components.components(self, seed)

    def tune(
        self,
        keep: float | None = None,
        kl: float | None = None,
        measure: str = "top1",
        policies: Sequence[str] | None = None,
        seed: int = 0,
    ) -> Choice:
        """The policy to use under a budget, with figures out of fold; without a budget, 0.95 of unrelated answers stay."""
        return tune(self, keep, kl, measure, policies, seed)

    def comparisons(self, measure: str = "top1") -> ResultRows:
        """Each condition against the adapter as delivered, on the same items."""
        return comparison.against_delivered(self, measure)

    def agreement(self) -> ResultRows:
        """Agreement of the criterion (net margin > 0) with what the model says."""
        return criterion.agreement(self)

    def calibration(self, condition: str = DELIVERED) -> ResultRows:
        """What the model says in bins of net margin."""
        return criterion.calibration(self, condition)

    def disagreement(self) -> ResultSection | None:
        """Conflicts on which two measures of success disagree."""
        return measures.disagreement(self)

    def disagreements(self) -> ResultRows:
        """Why measures of success disagree, by kind."""
        return measures.disagreements(self)

    def sampled(self) -> ResultRows:
        """Success of answers drawn at a temperature."""
        return sampling.sampled(self)

    def robustness(self) -> ResultSection | None:
        """Success in other wordings, beside other documents, and repeated, hedged, denied or contested."""
        return robustness.robustness(self)

    def belief(self) -> ResultSection | None:
        """Does the model believe what is stated, or only say it? None where the run has no such questions."""
        return belief.belief(self)

    def references(self) -> ResultRows:
        """The published shares that the plan names, beside those measured here."""
        return published.references(self)

    def sensitivity(self) -> Sensitivity | None:
        """The smallest quartile gap that an audit of this size would detect."""
        return sensitivity(self)

    def summary(self) -> str:
        """The run in text: what it is, its verdict and its hypotheses."""
        return "\n".join([repr(self), str(self.verdict()), str(self.hypotheses())])

    def as_json(self, seed: int = 0) -> dict[str, Any]:
        """All analyses, as summary.json holds them."""
        return summary.summarise(self, seed)
