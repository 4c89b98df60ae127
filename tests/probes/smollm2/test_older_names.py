"""The fetched folder: names by which transformers 4 reads what transformers 5 wrote."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from override_gap.probes.smollm2.fetch import add_older_names
from tests.families import GROUPED, words


def test_a_folder_of_this_version_gets_the_older_names_and_stays_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(**GROUPED, rope_parameters={"rope_type": "default", "rope_theta": 100000.0})
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    words().save_pretrained(tmp_path)
    assert "rope_theta" not in json.loads((tmp_path / "config.json").read_text())
    add_older_names(tmp_path)
    # what version 4.51.3 reads: rope_theta of the configuration, and a tokenizer class that it has
    assert json.loads((tmp_path / "config.json").read_text())["rope_theta"] == 100000.0
    older = json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"]
    assert older == "PreTrainedTokenizerFast"
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    unlike = ("_name_or_path", "transformers_version", "architectures")
    before, after = ({k: v for k, v in m.config.to_dict().items() if k not in unlike} for m in (model, again))
    assert before == after
    ids = torch.arange(40)[None] % GROUPED["vocab_size"]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, again(ids).logits)
    text = "alpha beta ."
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == words()(text)["input_ids"]
    written = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    add_older_names(tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == written
