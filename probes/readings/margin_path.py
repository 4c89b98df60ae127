"""The gain path: the adapter margin split over layers, maps and parts by integrated gradients in the gains from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from override_gap.margins.adapter import layer_of
from override_gap.margins.nested_quadrature import Rule, nested_rules
from override_gap.probes.attach.parameters import ParameterUpdates
from override_gap.probes.attach.stack import Stack
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.batching import MEMORY_SHARE, free_bytes
from override_gap.probes.readings.gain_slopes import NoGradient, gain_slopes
from override_gap.probes.readings.layers import attribution_tolerance
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import ResumePoint

#: The shares add up to the adapter margin to this share of it, or to rounding where it is small.
CLOSURE = 0.01
#: On a CPU, what a pass keeps for its backward passes takes no more than this, in bytes: larger passes gain nothing there.
MOST_KEPT = 2**30

STACKED = "stacked experts and routers have no gradient by their gain, so margins are not split along the path of gains"
OPEN = (
    "the shares miss the adapter margin by more than 1% and more than rounding at all nodes (`path_gap`), as where it jumps "
    "along the path of gains: they have none"
)


@dataclass(frozen=True)
class MarginPath:
    """A batch's adapter margins split over updates, nats; `sites` names each by its part (document, shared) and path.

    `push`, `pull`: integral over t from 0 to 1 of dg(y)/ds at s = (t, ..., t), s one gain per update, for y_doc and y_pre.
    `first`: d(push - pull)/ds at t = 0. `nodes`: passes that a row took. `gap`: |sum of push - pull - adapter margin|, nats.
    `closed`: with the nodes taken, the sums miss the adapter margin by at most 1% of it, and push and pull by at most 1% of
    |push| + |pull|, or all by no more than rounding. The shares of a row that is not closed are NaN.
    """

    sites: tuple[tuple[str, str], ...]
    push: Float[Tensor, "batch site"]
    pull: Float[Tensor, "batch site"]
    first: Float[Tensor, "batch site"]
    nodes: Int[Tensor, " batch"]
    gap: Float[Tensor, " batch"]
    closed: Bool[Tensor, " batch"]

    def by_layer(self, n_layers: int) -> dict[str, Float[Tensor, "batch layer"]]:
        """The columns of the table of layers: sums over the updates of each layer."""
        layers = torch.tensor([layer_of(path) or 0 for _, path in self.sites])

        def summed(values: Float[Tensor, "batch site"]) -> Float[Tensor, "batch layer"]:
            return torch.zeros(len(values), n_layers).index_add(1, layers, values)

        return {
            "path": summed(self.push - self.pull),
            "path_push": summed(self.push),
            "path_pull": summed(self.pull),
            "path_first": summed(self.first),
        }


def read_margin_path(
    subject: Subject, prior: Prior, parts: Mapping[str, Stack], delivered: Adapted
) -> MarginPath | str:
    """Split the adapter margins of a batch as delivered, by as many nodes as each row needs; or why they cannot be split.

    `parts`: the adapters' parts by name, as `part_stacks` gives them; `delivered`: the readings at gain 1. A row leaves as
    soon as its shares add up, and every rule uses the passes of the one before, so that a row takes 3, 6 or 12 passes, more
    only where its margin bends sharply.
    """
    if any(isinstance(update, ParameterUpdates) for stack in parts.values() for update in stack.sites.values()):
        return STACKED
    margins = delivered.margins
    sums = torch.stack([margins.push, margins.pull, margins.adapter], dim=1).detach().cpu().float()
    sizes = sums.abs()
    # push and pull must close too: their errors may cancel in the margin
    scales = torch.stack([sizes[:, :2].sum(1), sizes[:, :2].sum(1), sizes[:, 2]], dim=1)
    rounding = attribution_tolerance(subject, prior, delivered).cpu()[:, None]
    allowed = (CLOSURE * scales).maximum(rounding)
    path = PathSlopes(subject, prior, parts)
    size = (len(sums), len(path.sites))
    push, pull, first = (torch.full(size, float("nan")) for _ in range(3))
    nodes, missed = torch.zeros(len(sums), dtype=torch.long), torch.full_like(sums, float("nan"))
    still_open = sums.isfinite().all(1).nonzero().flatten().tolist()
    for rule in nested_rules():
        try:
            path.run(still_open, rule)
        except NoGradient as fault:
            return str(fault)
        for n in still_open:
            push[n], pull[n] = path.integral(n, rule)
            first[n] = path.seen[n, 0.0][0] - path.seen[n, 0.0][1]
            missed[n] = (torch.stack([push[n], pull[n], push[n] - pull[n]]).sum(1) - sums[n]).abs()
            nodes[n] = path.passes[n]
        still_open = [n for n in still_open if not bool((missed[n] <= allowed[n]).all())]
        if not still_open:
            break
    closed = (missed <= allowed).all(1)
    for shares in (push, pull, first):
        shares[~closed] = float("nan")
    return MarginPath(path.sites, push, pull, first, nodes, missed[:, 2], closed)


@dataclass
class PathSlopes:
    """The slopes of a batch's two logits along the path: `seen` holds those of y_doc and y_pre by row and gain."""

    subject: Subject
    prior: Prior
    parts: Mapping[str, Stack]
    seen: dict[tuple[int, float], Float[Tensor, "2 site"]] = field(default_factory=dict)
    passes: dict[int, int] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[tuple[str, str], ...]:
        return tuple((part, path) for part, stack in self.parts.items() for path in stack.sites)

    def run(self, rows: Sequence[int], rule: Rule) -> None:
        """Read the slopes of some rows at those nodes of a rule that were not read yet, several nodes in one pass."""
        pairs = [(n, at) for at in rule.nodes for n in rows if (n, at) not in self.seen]
        most = self._rows_that_fit()
        for start in range(0, len(pairs), most):
            some = pairs[start : start + most]
            for (n, at), slopes in zip(some, self._slopes([n for n, _ in some], [at for _, at in some]), strict=True):
                self.seen[n, at] = slopes
                self.passes[n] = self.passes.get(n, 0) + 1

    def integral(self, row: int, rule: Rule) -> Float[Tensor, "2 site"]:
        """The integrals of a row's slopes by a rule whose nodes have all been read."""
        weighted = [weight * self.seen[row, at].double() for at, weight in zip(rule.nodes, rule.weights, strict=True)]
        return torch.stack(weighted).sum(0).float()

    def _slopes(self, rows: list[int], at: list[float]) -> Float[Tensor, "batch 2 site"]:
        """Derivatives of g(y_doc) and g(y_pre) by the gain of every update, each row at its own uniform gain."""
        sites = self.sites
        gains = torch.tensor(at)[:, None].repeat(1, len(sites)).requires_grad_()
        own = {site: gains[:, n] for n, site in enumerate(sites)}
        attached = [
            (stack.only(rows), {path: own[part, path] for path in stack.sites}) for part, stack in self.parts.items()
        ]
        prior = self.prior.only(rows)

        def answers(final: Float[Tensor, "batch d_model"]) -> list[Float[Tensor, " batch"]]:
            return [self.subject.token_logits(final, prior.doc), self.subject.token_logits(final, prior.pre)]

        slopes = gain_slopes(self.subject, prior.batch, attached, gains, answers, self._resume(rows, prior))
        return torch.stack(slopes, dim=1)

    def _resume(self, rows: list[int], prior: Prior) -> ResumePoint | None:
        """The base's pass up to the first layer that an update acts on: below it nothing changes."""
        if self.prior.block_outputs is None or self._first_layer == 0:
            return None
        return ResumePoint(self.prior.block_outputs.only(rows, prior.batch.ids.shape[1]), self._first_layer)

    @property
    def _first_layer(self) -> int:
        return min(layer_of(path) or 0 for _, path in self.sites)

    def _rows_that_fit(self) -> int:
        """How many rows a pass may have: what is kept for its backward passes, some 12 widths and 5 inner widths a layer."""
        config = self.subject.model.config.get_text_config()
        inner = getattr(config, "intermediate_size", None) or 4 * self.subject.d_model
        size = torch.finfo(self.subject.dtype).bits // 8
        layers = self.subject.n_layers - self._first_layer
        row = self.prior.batch.ids.shape[1] * layers * size * (12 * self.subject.d_model + 5 * inner)
        most = MEMORY_SHARE * free_bytes(self.subject.device)
        return max(1, int((most if self.subject.device.type == "cuda" else min(most, MOST_KEPT)) // row))
