"""Prior dose: small updates fitted to the base, scaled until its prior margin at a question has moved by so many nats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from override_gap.margins.adapter import layer_of
from override_gap.probes.attach.stack import Factors, Stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.batching import out_of_memory
from override_gap.probes.readings.question_rows import QuestionRows
from override_gap.probes.subject.devices import runs_on
from override_gap.probes.subject.model import Subject

#: A dose is reached where the prior margin has moved by it to this many nats.
REACHED = 0.1
#: Rank of an update, and the most steps of Adam that one is fitted for.
RANK, STEPS = 2, 120
#: The learning rate, and what it becomes after so many steps for rows that need more of them: the strongest priors.
RATE, LATE_RATE, LATE = 3e-3, 1e-2, 40
#: A fit ends this far beyond its largest dose, nats, so that every dose lies between gain 0 and gain 1.
BEYOND = 0.5
#: Gains are found to this many nats in at most so many readings; a fit that ends short is scaled up to this gain.
CLOSE, READINGS, MOST_GAIN = 0.02, 24, 4.0


@dataclass(frozen=True)
class BeliefUpdates:
    """One update per row, and how far each moves its question's prior margin at gain 1, nats; `steps` of Adam were run."""

    updates: Stack
    moved: Float[Tensor, " batch"]
    steps: int


@dataclass(frozen=True)
class GainsForDoses:
    """The gain of each row's update and how far the prior margin moves there, nats: as near to the dose as was found."""

    gains: Float[Tensor, " batch"]
    moved: Float[Tensor, " batch"]


def fit_updates(
    subject: Subject,
    paths: Sequence[str],
    taught: QuestionRows,
    asked: QuestionRows,
    furthest: float,
    seeds: Sequence[int],
) -> BeliefUpdates:
    """Fit one low-rank update per row at these linear maps, which moves the base's prior margin by `furthest` nats and BEYOND.

    Maximises f(y_pre) - f(y_doc) at `taught` by Adam (minimises it where `furthest` is negative), which is another wording
    of the fact; B starts at 0, A uniform within +- d_in^-0.5 from the row's seed. A row keeps the factors at which the
    prior margin at its own question, `asked`, had first moved far enough, or had moved farthest. But for rounding no row
    depends on those beside it. Raises AdapterError where no gradient reaches the maps.
    """
    sign, aim = (1.0 if furthest > 0 else -1.0), abs(furthest) + BEYOND
    factors = {path: _initial(subject, path, seeds) for path in paths}
    adam = torch.optim.Adam([tensor for pair in factors.values() for tensor in (pair.A, pair.B)], lr=RATE)
    stack, ones = Stack(factors, len(taught)), torch.ones(len(taught))
    farthest = {path: Factors(pair.A.detach().clone(), pair.B.detach().clone()) for path, pair in factors.items()}
    moved, unfinished = torch.zeros(len(taught)), torch.ones(len(taught), dtype=torch.bool)
    steps = 0
    while steps < STEPS and bool(unfinished.any()):
        adam.param_groups[0]["lr"] = RATE if steps < LATE else LATE_RATE
        adam.zero_grad()
        rows = unfinished.nonzero().flatten().tolist()
        margins = taught.margins(rows, stack.only(rows), ones[rows], gradients=True)
        if not margins.requires_grad:
            raise AdapterError(f"{paths[0]}: no gradient reaches this map, so no update can be fitted to it")
        try:
            (-sign * margins).sum().backward()
        except RuntimeError as fault:
            if out_of_memory(fault):
                raise
            raise AdapterError(
                f"no update can be fitted: this model gives no gradients ({str(fault).splitlines()[0][:200]})"
            ) from fault
        adam.step()
        steps += 1
        now = moved.clone()
        now[rows] = asked.moved(rows, stack.only(rows), ones[rows])
        _copy_rows(factors, farthest, unfinished & (sign * now > sign * moved))
        moved = torch.where(sign * now > sign * moved, now, moved)
        unfinished &= (sign * moved < aim) & now.isfinite()
    return BeliefUpdates(Stack(farthest, len(taught)), moved, steps)


def gains_for(asked: QuestionRows, fitted: BeliefUpdates, doses: Float[Tensor, " batch"]) -> GainsForDoses:
    """The gain at which each row's update moves its question's prior margin by the dose, to CLOSE nats.

    By regula falsi between a gain short of the dose and one beyond it (the Illinois rule); an update that ends short of its
    dose is scaled up first, to MOST_GAIN, while that brings it nearer.
    """
    sign = doses.sign()
    low, low_moved = torch.zeros_like(doses), torch.zeros_like(doses)
    high, high_moved = torch.ones_like(doses), fitted.moved.clone()
    gains, moved = high.clone(), high_moved.clone()
    bracketed, hopeful = sign * high_moved >= sign * doses, torch.ones(len(doses), dtype=torch.bool)
    low_weight, high_weight = torch.ones_like(doses), torch.ones_like(doses)
    for _ in range(READINGS):
        active = hopeful & ((moved - doses).abs() > CLOSE)
        rows = active.nonzero().flatten().tolist()
        if not rows:
            break
        over, under = (high_moved - doses) * high_weight, (low_moved - doses) * low_weight
        tried = torch.where(bracketed, (low * over - high * under) / (over - under), (1.5 * high).clamp_max(MOST_GAIN))
        now = moved.clone()
        now[rows] = asked.moved(rows, fitted.updates.only(rows), tried[rows])
        nearer = active & ((now - doses).abs() < (moved - doses).abs())
        gains, moved = torch.where(nearer, tried, gains), torch.where(nearer, now, moved)
        beyond = sign * now >= sign * doses
        inside = active & bracketed
        # Illinois: a side that stays twice is weighted down, else regula falsi would creep towards it
        low_weight = torch.where(inside & beyond, low_weight / 2, torch.where(inside, 1.0, low_weight))
        high_weight = torch.where(inside & ~beyond, high_weight / 2, torch.where(inside, 1.0, high_weight))
        low, low_moved = (torch.where(active & ~beyond, new, old) for new, old in ((tried, low), (now, low_moved)))
        ends = active & (beyond | ~bracketed)
        high, high_moved = (torch.where(ends, new, old) for new, old in ((tried, high), (now, high_moved)))
        hopeful &= bracketed | beyond | (nearer & (tried < MOST_GAIN))
        bracketed |= active & beyond
    return GainsForDoses(gains, moved)


def other_layers(subject: Subject, paths: Sequence[str], acting: Sequence[str]) -> list[str]:
    """Linear maps of the same names as `paths`, in the layers in which the adapter, which acts on `acting`, changes nothing."""
    taken = {layer_of(path) for path in acting}
    names = {path.replace(f".{layer_of(path)}.", ".*.", 1) for path in paths}
    blocks = {module for block in subject.blocks for module in block.modules()}
    return [
        path
        for path, site in subject.sites.items()
        if (layer := layer_of(path)) is not None
        and layer not in taken
        and site.module in blocks
        and path.replace(f".{layer}.", ".*.", 1) in names
    ]


def _initial(subject: Subject, path: str, seeds: Sequence[int]) -> Factors:
    """Factors as LoRA is commonly begun: they change nothing yet."""
    site = subject.sites[path]
    bound, draws = site.d_in**-0.5, []
    for seed in seeds:
        draws.append(torch.rand(RANK, site.d_in, generator=torch.Generator().manual_seed(seed)) * 2 * bound - bound)
    device = runs_on(site.module)
    B = torch.zeros(len(seeds), site.d_out, RANK, device=device)
    return Factors(torch.stack(draws).to(device).requires_grad_(), B.requires_grad_())


def _copy_rows(source: Mapping[str, Factors], target: Mapping[str, Factors], rows: Bool[Tensor, " batch"]) -> None:
    for path, pair in source.items():
        at = rows.to(pair.A.device)
        target[path].A[at], target[path].B[at] = pair.A.detach()[at], pair.B.detach()[at]
