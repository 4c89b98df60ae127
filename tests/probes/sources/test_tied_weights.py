"""A delta of a weight that is embedding and unembedding at once: neither of its names is measured as the other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from override_gap.margins.items.item import Document
from override_gap.probes.attach.runtime import batched
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources import open_source
from tests.conftest import tiny


@pytest.mark.parametrize("name", ["lm_head.weight", "model.embed_tokens.weight"])
def test_a_dense_delta_of_a_tied_embedding_is_refused_under_either_name(name: str, tmp_path: Path) -> None:
    """The merged model changes where it reads tokens as well; what is attached at the unembedding alone would not."""
    subject = tiny("gemma2")
    weight = subject.model.get_output_embeddings().weight
    assert weight.data_ptr() == subject.model.get_input_embeddings().weight.data_ptr()
    save_file({name: torch.ones_like(weight)}, tmp_path / "delta.safetensors")
    with pytest.raises(AdapterError, match=r"it is in no layer|the model has no linear map"):
        batched(subject, open_source(f"dense:{tmp_path / 'delta.safetensors'}", subject).encode([Document("x")]), [1])
