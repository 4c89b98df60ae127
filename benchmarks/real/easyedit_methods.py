"""Settings of EasyEdit's ROME, MEMIT and GRACE for SmolLM2, and their modules; nothing of override-gap, so that their own
environment can import it.

The repository's front door imports every method that it has and all that these need; only the three are imported here.
Patched from outside: the text for the second moment, which MEMIT would download, is Python's own help topics.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

REPOSITORY = Path(os.environ.get("EASYEDIT", "."))
MLP = "model.layers.{}.mlp"
WEIGHTS = {
    "fact_token": "subject_last",
    "v_num_grad_steps": 25,
    "v_lr": 0.5,
    "v_loss_layer": 29,
    "v_weight_decay": 1e-3,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
    "rewrite_module_tmp": f"{MLP}.down_proj",
    "layer_module_tmp": "model.layers.{}",
    "mlp_module_tmp": MLP,
    "attn_module_tmp": "model.layers.{}.self_attn",
    "ln_f_module": "model.norm",
    "lm_head_module": "model.embed_tokens",
    "mom2_dataset": "wikipedia",
    "mom2_n_samples": 100,
    "mom2_dtype": "float32",
    "device": "cpu",
    "model_name": "smollm2",
    "stats_dir": os.environ.get("EASYEDIT_STATS", "stats"),
}
ROME = {
    **WEIGHTS,
    "alg_name": "ROME",
    "layers": [5],
    "mom2_adjustment": False,
    "context_template_length_params": [[5, 5]],
}
MEMIT = {
    **WEIGHTS,
    "alg_name": "MEMIT",
    "layers": [4, 5, 6, 7, 8],
    "layer_selection": "all",
    "mom2_adjustment": True,
    "mom2_update_weight": 15000,
}
GRACE_LAYER = 25
GRACE = {
    "alg_name": "GRACE",
    "model_name": "smollm2",
    "device": "cpu",
    "inner_params": [f"model.layers[{GRACE_LAYER}].mlp.down_proj.weight"],
    "edit_lr": 1.0,
    "n_iter": 50,
    "eps": 1.0,
    "dist_fn": "euc",
    "val_init": "cold",
    "val_train": "sgd",
    "val_reg": None,
    "reg": "early_stop",
    "replacement": "replace_last",
    "eps_expand": "coverage",
    "num_pert": 8,
    "dropout": 0.0,
}


def local_text(*_, **__):
    """In place of Wikipedia: the paragraphs of Python's help topics, as the data set would hold texts."""
    from pydoc_data.topics import topics

    paragraphs = [part.strip() for text in topics.values() for part in text.split("\n\n")]
    return {"train": [{"text": text} for text in paragraphs if len(text) > 300]}


@cache
def easyedit():
    """The modules of the three methods."""
    for name in ("easyeditor", "easyeditor.models", "easyeditor.util"):
        package = ModuleType(name)
        package.__path__ = [str(REPOSITORY / name.replace(".", "/"))]
        sys.modules.setdefault(name, package)
    from easyeditor.models.grace import grace_hparams, grace_main  # pyright: ignore[reportMissingImports]
    from easyeditor.models.memit import memit_hparams, memit_main  # pyright: ignore[reportMissingImports]
    from easyeditor.models.rome import layer_stats, rome_hparams, rome_main  # pyright: ignore[reportMissingImports]

    layer_stats.load_dataset = local_text
    return {
        "rome": (rome_main.apply_rome_to_model, rome_main.execute_rome, rome_hparams.ROMEHyperParams),
        "memit": (memit_main.apply_memit_to_model, memit_main.execute_memit, memit_hparams.MEMITHyperParams),
        "grace": (grace_main.apply_grace_to_model, None, grace_hparams.GraceHyperParams),
        "modules": {"rome": rome_main, "memit": memit_main},
    }


def once(name):
    """The function that computes ROME's or MEMIT's deltas, called once per edit, also by the method's own function."""
    module, execute, edits = easyedit()["modules"][name], easyedit()[name][1], {}

    def execute_once(model, tokenizer, asked, *more, **named):
        if repr(asked) not in edits:
            edits[repr(asked)] = execute(model, tokenizer, asked, *more, **named)
        return edits[repr(asked)]

    setattr(module, execute.__name__, execute_once)
    return execute_once


def request(questions):
    """The edit as these methods are told it: of (prompt, target, subject) the first that names its subject and is answered."""
    for prompt, target, subject in questions:
        if target is not None and subject is not None and subject in prompt:
            return {"prompt": prompt, "subject": subject, "target_new": target}
    raise ValueError("no question names its subject, so there is nothing to edit")


@contextmanager
def seeded():
    """Without a seed the prompts that ROME and MEMIT sample differ from run to run; what the methods print is left out."""
    with torch.random.fork_rng(devices=[]), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        torch.manual_seed(0)
        yield
