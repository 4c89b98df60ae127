"""The checks of annotations in the tests: what they refuse, which dimensions belong together, and what is left unchecked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from override_gap.margins.margin import token_logit
from tests.shapes import on_first_call

if TYPE_CHECKING:
    from fractions import Fraction


@on_first_call
def halved(x: Float[Tensor, " batch"], times: int = 1) -> Float[Tensor, " batch"]:
    return x[::2] if times else x


@on_first_call
def twice(x: Float[Tensor, " batch"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, " other"]]:
    return x, halved(torch.zeros(5), 0)


@on_first_call
def length(x: list[Later], unknown: Fraction | None = None) -> float:
    return x[0].size if len(x) == 1 else "many"  # type: ignore[return-value]


@on_first_call
@dataclass(frozen=True)
class Later:
    size: float


@contextmanager
@on_first_call
def opened(x: Float[Tensor, " batch"]) -> Iterator[int]:
    halved(torch.zeros(len(x) + 1), 0)
    yield len(x)


def test_the_packages_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        token_logit(torch.zeros(2), torch.zeros(2))


def test_arguments_and_what_is_returned_share_their_dimensions_within_one_call() -> None:
    assert len(halved(torch.zeros(2), 0)) == 2
    assert len(halved(torch.zeros(3), 0)) == 3
    assert len(twice(torch.zeros(4))[1]) == 5
    with pytest.raises(TypeCheckError, match="batch"):
        halved(torch.zeros(4))


def test_kinds_are_checked_of_arguments_results_and_fields() -> None:
    assert length([Later(2)]) == 2, "an int will do for a float"
    for wrong in ([3], [Later(2), Later(3)]):
        with pytest.raises(TypeCheckError):
            length(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeCheckError):
        Later("2")  # type: ignore[arg-type]
    with pytest.raises(TypeCheckError):
        halved(torch.zeros(2), 0.5)  # type: ignore[arg-type]


def test_a_block_has_its_arguments_checked_and_keeps_no_dimensions_while_it_is_open() -> None:
    with opened(torch.zeros(2)) as n:
        assert n == 2
        assert len(halved(torch.zeros(3), 0)) == 3
    with pytest.raises(TypeCheckError), opened(torch.zeros(2, 2)):
        pass


def test_a_name_for_the_type_checker_alone_is_not_checked() -> None:
    assert length([Later(2)], "anything") == 2  # type: ignore[arg-type]
