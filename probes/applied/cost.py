"""What a policy costs in use beyond the passes that a model runs anyway."""

from __future__ import annotations

from dataclasses import dataclass

from override_gap.margins.text import plural


@dataclass
class Cost:
    """Extra passes over prompts and the seconds that they took; `prompts` counts batches, `questions` their rows.

    A policy that does not look at the question needs none. A generation reads its prompts once, however many tokens follow.
    """

    prompts: int = 0
    questions: int = 0
    passes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        batches = "1 batch" if self.prompts == 1 else f"{self.prompts:,} batches"
        passes = "1 extra pass" if self.passes == 1 else f"{self.passes:,} extra passes"
        return f"{passes} for {plural(self.questions, 'question')} in {batches}, {self.seconds:.2f} s"
