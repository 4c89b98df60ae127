"""What all rows of a batch begin with is run once, and every reading is that of whole rows."""

from __future__ import annotations

import pytest
import torch

from override_gap.probes.subject import forward as forward_module
from override_gap.probes.subject import shared_prefix
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.shared_prefix import SHORTEST, SharedPrefix, can_share, common_length

COMMON = 24


def batch_of(subject: Subject, lengths: tuple[int, ...] = (5, 9, 7, 6, 9), common: int = COMMON) -> Batch:
    """Rows that begin alike and end differently, padded on the right; each is read at its last position."""
    drawn = torch.Generator().manual_seed(3)
    begin = torch.randint(3, 40, (common,), generator=drawn)
    rows = [torch.cat([begin, 3 + n + torch.arange(length)]) for n, length in enumerate(lengths)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    at = mask.sum(1) - 1
    return Batch(ids, mask, at, torch.zeros_like(at))


def test_every_family_gives_the_states_of_whole_rows(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_share(subject)
    batch = batch_of(subject)
    read = torch.stack([batch.at, batch.at - 2], dim=1)
    whole = forward(subject, batch, read, layers=True, keep_blocks=True)
    ran: list[int] = []
    monkeypatch.setattr(forward_module, "can_share", lambda _: True)  # the hook that counts would forbid it
    hook = subject.blocks[0].register_forward_hook(
        lambda _m, _a, out: ran.append((out if torch.is_tensor(out) else out[0]).shape[1])
    )
    shared = forward(subject, batch, read, layers=True, keep_blocks=True, share=True)
    hook.remove()
    assert ran == [COMMON, batch.ids.shape[1] - COMMON], "the beginning was not run once"
    torch.testing.assert_close(shared.final, whole.final, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shared.residual, whole.residual, rtol=1e-5, atol=1e-5)
    assert shared.block_outputs is not None
    assert whole.block_outputs is not None
    kept = batch.mask.bool()
    for ours, theirs in zip(shared.block_outputs.outputs, whole.block_outputs.outputs, strict=True):
        ours, theirs = (own if torch.is_tensor(own) else own[0] for own in (ours, theirs))
        torch.testing.assert_close(ours[kept], theirs[kept], rtol=1e-5, atol=1e-5)


def test_nothing_is_shared_behind_the_first_position_that_is_read(subject: Subject) -> None:
    batch = batch_of(subject)
    prefix = SharedPrefix.of(subject, batch.ids, batch.mask, SHORTEST)
    assert prefix is not None
    assert prefix.length == SHORTEST
    assert SharedPrefix.of(subject, batch.ids, batch.mask, SHORTEST - 1) is None


def test_few_rows_short_beginnings_and_padding_in_front_are_run_whole(subject: Subject) -> None:
    few, short = batch_of(subject, (5, 9, 7)), batch_of(subject, common=SHORTEST - 1)
    assert SharedPrefix.of(subject, few.ids, few.mask, 99) is None
    assert SharedPrefix.of(subject, short.ids, short.mask, 99) is None
    batch = batch_of(subject)
    mask = batch.mask.clone()
    mask[0, 0] = 0
    assert common_length(batch.ids, mask) == 0


def test_a_model_of_which_it_is_not_sure_runs_whole_rows(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject.model.config, "_attn_implementation", "an owner's own")
    assert not can_share(subject)
    monkeypatch.undo()
    monkeypatch.setattr(shared_prefix, "rope_switch", lambda _: 4096)
    assert not can_share(subject)
    monkeypatch.undo()
    monkeypatch.setattr(subject.model.config, "quantization_config", {"bits": 8}, raising=False)
    assert not can_share(subject)
    monkeypatch.undo()
    hook = subject.blocks[1].register_forward_hook(lambda _m, _a, out: out)
    assert not can_share(subject)
    hook.remove()
    assert can_share(subject)


def test_a_cache_that_was_not_filled_or_is_too_large_is_not_used(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(subject)
    monkeypatch.setattr(shared_prefix, "KEPT_BYTES", 100)
    assert SharedPrefix.of(subject, batch.ids, batch.mask, 99) is None
    monkeypatch.undo()
    monkeypatch.setattr(subject.decoder, "forward", lambda **_: None)
    assert SharedPrefix.of(subject, batch.ids, batch.mask, 99) is None


def test_a_hook_of_the_owners_that_looks_at_places_sees_whole_rows(subject: Subject) -> None:
    def first_place(_module: object, _args: object, out: object) -> object:
        (out if torch.is_tensor(out) else out[0])[:, 0] += 1  # type: ignore[index]
        return out

    batch = batch_of(subject)
    hook = subject.blocks[1].register_forward_hook(first_place)
    whole = forward(subject, batch, batch.at[:, None]).final
    shared = forward(subject, batch, batch.at[:, None], share=True).final
    hook.remove()
    torch.testing.assert_close(shared, whole, rtol=0, atol=0)
