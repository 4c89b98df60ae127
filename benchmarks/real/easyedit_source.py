"""ROME, MEMIT and GRACE of the repository EasyEdit as sources: one edit per document, of what its first question with a
subject states.

    EASYEDIT=REPOSITORY override-gap audit --adapters easyedit_source:rome ...

Run in this file's folder. The deltas of ROME and MEMIT are computed once per edit, since the same call gives the same.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager

import torch
from easyedit_methods import GRACE, GRACE_LAYER, MEMIT, ROME, easyedit, once, request, seeded

from override_gap.margins.adapter import Adapter, LowRank


def request_of(document):
    """The edit that a document's questions ask for."""
    return request((asked.prompt, asked.target, asked.subject) for asked in document.questions)


class Editor:
    """What the three have in common: their settings, their tokenizer, and the logits of their edited model."""

    reads_questions = True

    def __init__(self, subject, name, settings):
        self.subject, self.name = subject, name
        self.apply, _, hparams = easyedit()[name]
        self.hparams = hparams(**settings)
        self.settings = {**settings, "text": "pydoc_data.topics", "seed": 0}
        self.base_fingerprint = subject.fingerprint
        self.tokenizer = copy.deepcopy(subject.tokenizer)
        self.tokenizer.padding_side = "right"
        self.edits, self.native = {}, {}

    def edited(self, document):
        """The method's own edited model, made by its own function on a copy of the model."""
        with seeded():
            asked = [request_of(document)]
            return self.apply(self.subject.model, self.tokenizer, asked, self.hparams, copy=True)[0]

    def fresh(self, model):
        """The edited model, ready to read another text."""
        return model

    def native_logits(self, document, text):
        """The edited model's logits after reading the text."""
        if (document.key, text) not in self.native:
            model = self.fresh(self.edited(document))
            ids = torch.tensor([self.subject.tokenize(text)])
            with torch.no_grad():  # not around the edit, which is trained
                self.native[document.key, text] = model(input_ids=ids).logits[0]
        return self.native[document.key, text]


class WeightEditor(Editor):
    """ROME and MEMIT: per edited map a key side [d_in, n] and a value side [d_out, n], whose product is added to it."""

    def __init__(self, subject, name, settings):
        super().__init__(subject, name, settings)
        self.execute = once(name)

    def encode(self, documents):
        """One rank-one update per edited map and document."""
        return [Adapter(f"{self.name}:{document.key}", self.updates(document)) for document in documents]

    def updates(self, document):
        """The deltas, as scale * B A with A the key side and B the value side."""
        with seeded():
            asked = request_of(document)
            deltas = self.execute(
                self.subject.model, self.tokenizer, asked if self.name == "rome" else [asked], self.hparams
            )
        return {
            name.removesuffix(".weight"): LowRank(
                key.reshape(len(key), -1).T.float(), value.reshape(len(value), -1).float(), scale=1.0
            )
            for name, (key, value) in deltas.items()
        }


class Codebook:
    """GRACE's adapter of one document: it takes the place of one map while a question is read."""

    def __init__(self, name, module, edited_at):
        self.name, self.module, self.edited_at = name, module, edited_at

    @contextmanager
    def acting(self, subject, question):
        """The map is looked up at the question's last token, as in the method's own `generate`."""
        mlp = subject.blocks[GRACE_LAYER].mlp
        own, self.module.key_id = mlp.down_proj, len(question) - 1
        mlp.down_proj = self.module
        try:
            yield
        finally:
            mlp.down_proj = own


class Grace(Editor):
    """GRACE: a codebook beside one map, which replaces its output where the input is near a key."""

    static = False
    last = None

    def encode(self, documents):
        """One codebook per document."""
        for document in documents:
            if document.key not in self.edits:
                self.edits[document.key] = self.adapter(document)
        return [self.edits[document.key] for document in documents]

    def adapter(self, document):
        """The edited model's codebook, and the number of the token at which the edit was made."""
        module = copy.deepcopy(self.edited(document).model.layers[GRACE_LAYER].mlp.down_proj)
        return Codebook(document.key, module, len(self.subject.tokenize(request_of(document)["prompt"])) - 1)

    def edited(self, document):
        """The method's own edited model; the last one is kept, each being a copy of the whole model."""
        if self.last is None or self.last[0] != document.key:
            self.last = document.key, super().edited(document).model
        return self.last[1]

    def fresh(self, model):
        """Set to look up the last token of what it reads next, as the method's own `generate` does."""
        model.model.layers[GRACE_LAYER].mlp.down_proj.key_id = -1
        return model


def rome(subject):
    """ROME at one layer."""
    return WeightEditor(subject, "rome", ROME)


def memit(subject):
    """MEMIT at five layers."""
    return WeightEditor(subject, "memit", MEMIT)


def grace(subject):
    """GRACE at one layer."""
    return Grace(subject, "grace", GRACE)
