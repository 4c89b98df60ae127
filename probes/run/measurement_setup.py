"""What all units of a run share: the subject, the conditions, the probes and what adapters are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from override_gap.margins.conditions import Condition
from override_gap.probes.readings.batching import BatchSizer
from override_gap.probes.readings.generation import Sampling
from override_gap.probes.run.comparisons import Comparisons
from override_gap.probes.run.dose_sample import DoseSample
from override_gap.probes.run.read_comparisons import ReadComparisons
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.stream_writers import Writer, stream_writers


def _silent(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class MeasurementSetup:
    """What all units of a run share. `batch_size` 0: as many as fit in memory; `plain`: no work is shared between passes.

    `rescued_answers`: how many failures of a unit that a gain repairs are answered in words at that gain. `doses`: the items
    whose prior is changed. `told` is told how far a unit is where that takes long.
    """

    subject: Subject
    conditions: tuple[Condition, ...]
    probes: frozenset[str]
    batch_size: int
    seed: int
    sampled: tuple[Sampling, ...] = ()
    plain: bool = False
    batch_sizer: BatchSizer = field(default_factory=BatchSizer)
    comparisons: Comparisons = field(default_factory=Comparisons)
    rescued_answers: int = 0
    doses: DoseSample = field(default_factory=DoseSample)
    told: Callable[[str], None] = _silent

    @cached_property
    def read_comparisons(self) -> ReadComparisons:
        """The comparisons on this subject, read once for all units."""
        return ReadComparisons(self.subject, self.comparisons, self.seed, self.plain)

    @cached_property
    def stream_writers(self) -> tuple[tuple[Writer, ...], ...]:
        """The modules that write into the stream, by layer, found once. Raises SubjectError where there are none."""
        return stream_writers(self.subject)
