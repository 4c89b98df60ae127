"""Divergence: the position at which two answers to a question first differ in tokens, and what is read there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from override_gap.margins.items.item import TWO_ANSWERS, Item, ItemError
from override_gap.margins.items.joining import joined, stated_separator

Tokenize = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Divergence:
    """The tokens of one item and the positions that are read.

    `tokens` is the question followed by the old answer (the question alone where there is no old answer). The logits
    at position `at` predict the first token where the answers differ: `pre` in the old answer, `doc` in the document's.
    Tokens from `start` on are the old answer's (the document's where there is none); where the other answer alone merges
    with the end of the question, `at` comes before it. `n_answer_tokens` is the length of the document's answer. Positions
    count from 0 without padding. `unmerged`: the question alone, where the answer in `tokens` merges with its end and the
    tokens before `start` are not all of it; else None.
    """

    tokens: tuple[int, ...]
    start: int
    at: int
    doc: int
    pre: int | None
    n_question_tokens: int
    n_answer_tokens: int
    unmerged: tuple[int, ...] | None = None

    @property
    def asked(self) -> tuple[int, ...]:
        """The tokens of the question as it is asked in use, where no answer stands behind it."""
        return self.tokens[: self.start] if self.unmerged is None else self.unmerged

    @property
    def n_prior_tokens(self) -> int | None:
        """Number of tokens of the old answer; None where there is none."""
        return None if self.pre is None else len(self.tokens) - self.start

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens before the first difference: all that a margin depends on."""
        return self.tokens[: self.at + 1]

    @property
    def fed(self) -> tuple[int, ...]:
        """The tokens that some reading depends on: all but the old answer's last, after which nothing is read."""
        return self.tokens[: max(self.at + 1, len(self.tokens) - 1)]


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def diverge(tokenize: Tokenize, item: Item, question: str | None = None, *, unknown: int | None = None) -> Divergence:
    """Where an item's two answers first differ, each tokenised together with the question.

    `tokenize` must add the special tokens that the model expects (BOS) and must not end the text (EOS). `question`
    replaces the item's own text where a chat template has already been applied to it. `unknown` is the token that the
    tokenizer puts for words it does not know. Tokenising jointly lets an answer merge with the end of the question; the
    first difference is then still a token that the model would emit.

    Raises ItemError where the answers cannot be told apart: identical, empty, or one a prefix of the other.
    """
    defect = item.defect()
    if defect:
        raise ItemError(defect)
    text = item.question if question is None else question
    chat = question is not None
    separator = stated_separator(item)
    alone = tuple(tokenize(text))
    doc = tuple(tokenize(joined(text, item.answer, chat=chat, separator=separator)))
    start = common_length(alone, doc)
    if start == 0:
        raise ItemError("the question has no token before its answer; nothing predicts the first token")
    if len(doc) <= start:
        raise ItemError(f"answer {item.answer!r} adds no token to the question")
    if item.prior_answer is None or item.split not in TWO_ANSWERS:
        unmerged = None if start == len(alone) else alone
        return Divergence(alone[:start], start, start - 1, doc[start], None, start, len(doc) - start, unmerged)
    pre = tuple(tokenize(joined(text, item.prior_answer, chat=chat, separator=separator)))
    shared = common_length(pre, doc)
    if pre == doc:
        both = f"{item.prior_answer!r} and {item.answer!r}"
        if unknown is not None and unknown in doc[start:]:
            raise ItemError(f"the tokenizer does not know these words: {both} become its unknown token")
        raise ItemError(f"{both} are the same tokens to this tokenizer")
    if shared in (len(pre), len(doc)):
        short, long = (item.prior_answer, item.answer) if shared == len(pre) else (item.answer, item.prior_answer)
        raise ItemError(f"answers share all tokens: {short!r} is a prefix of {long!r}")
    n_answer_tokens = len(doc) - start
    n_question_tokens, start = min(start, common_length(alone, pre)), common_length(alone, pre)
    if shared == 0:
        raise ItemError(
            "already the question's first token depends on which answer follows, and no token stands before it to predict "
            "it; use a longer question"
        )
    unmerged = None if start == len(alone) else alone
    return Divergence(pre, start, shared - 1, doc[shared], pre[shared], n_question_tokens, n_answer_tokens, unmerged)
