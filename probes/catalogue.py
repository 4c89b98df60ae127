"""What can be named on the command line and in a plan: subjects, adapters, items and probes, each with its meaning.

No heavy library is imported here, so that `override-gap list` and a misspelt name are answered at once. Conditions are named
in margins.
"""

from __future__ import annotations

from importlib.metadata import entry_points

SUBJECTS = {
    "organism": "a tiny model trained on a small world whose facts and frequencies are known; offline, seconds",
    "smollm2": "SmolLM2-135M-Instruct, fetched once by `make smollm2`",
}

ADAPTERS = {
    "hypernetwork": "the hypernetwork that ships with the subject (organism, smollm2), or one that you trained: "
    "hypernetwork:folder=FOLDER",
    "fitted": "a LoRA fitted to each document by Adam; settings: steps, lr, rank, modules, batch, seed (fitted:steps=8,lr=1e-2)",
    "rank-one": "a closed-form rank-one edit of one layer, after ROME; settings: layer, position, steps, lr, reach, ridge, "
    "samples, length, modules, seed (rank-one:layer=9,position=subject)",
    "FOLDER": "a folder saved by PEFT, or folders of them at any depth, named by document key, item id or knowledge point; "
    "--adapter-map FILE for other names, --shared-adapter FOLDER for a part that all contain",
    "unscaled:FOLDER": "such a folder whose method adds B A without PEFT's lora_alpha / r: DyPRAG's factors; "
    "--adapter-map as above, no --shared-adapter",
    "compact:FILE": "many documents' adapters in one file, from `adapters export` or the export kit; or a folder of such files",
    "dense:FILE": "W_adapted - W_base of each edited parameter, or its factors, as safetensors; scale 1",
    "doc-to-lora:CHECKPOINT": "the method's own checkpoint, opened in its own environment: --python ENVIRONMENT/bin/python",
    "doc-to-lora:FILE": "factors stacked over layers, as safetensors; B rank-first, scale lora_alpha, head bias as shared part",
    "generative-adapter:FILE": "lora_a and lora_b stacked over layers, scale lora_alpha / r",
    "shine:FILE": "A, B and bias C stacked over layers, scale folded in",
    "prefix:FILE": "keys and values before the question, per document and layer (Cartridges); measured as delivered",
    "callable:MODULE:FUNCTION": "a function of your own from text to factors: module path -> (A, B, scale)",
    "MODULE:OBJECT": "a source of your own, or a function subject -> source (docs/your-method.md)",
}

#: Forms of adapters by which Python that the user names is run, by what stands before the colon; installed sources do too.
CODE_ADAPTERS = ("callable", "MODULE")
#: Settings behind a method's checkpoint that decide which code its own environment runs.
CODE_SETTINGS = {"doc-to-lora": ("repository", "trust-pickle")}

ITEMS = {
    "starter": "conflicts, novel and retention questions in plain English, from very well known to obscure",
    "benchmark": "668 questions: novel, combination, conflict in three tiers, retention; much larger than starter",
    "belief": "the benchmark's conflicts and retention questions with 512 that tell belief from what is only said",
    "organism": "the organism's own questions, with each fact's training frequency",
    "organism-belief": "these, with questions that tell belief from what is only said",
}

PROBES = {
    "margins": "prior, adapter and net margin, the first answer token; always on",
    "layers": "norm, attribution, lens and direct writing of every layer",
    "causal": "adapter margin with each layer alone and with each removed",
    "gain-path": "the adapter margin split exactly over layers and maps, along the path of gains from 0 to 1",
    "components": "margins split over attention, its heads and the MLP of every layer, base and adapted",
    "prior-dose": "the base's prior raised and lowered by stated amounts: what the same adapter then does",
    "geometry": "adapters against the base's weights: stable ranks, intruder dimensions, overlap; against each other always",
    "neutral": "what each adapter changes on text that has nothing to do with it",
    "search": "each failing conflict at growing gains until its answer comes first or the model breaks; the verdict reads it",
    "critical": "the smallest gain at which each conflict flips, by bisection",
    "answers": "greedy answers for a sample of the items",
    "joined": "the adapters of 2, 4 and 8 documents joined into one, and the same documents in one prompt",
    "stated": "adapters of the document repeated two to five times",
    "hedged": "adapters of 'It is rumoured that ...' and 'It is not true that ...'; overriding would be wrong",
    "contested": "a second turn that contradicts the document's answer: does the override hold?",
    "sampled": "answers of the same sample drawn at --temperatures, --draws of each",
}

#: Entry point group under which an installed package offers a source of adapters.
SOURCES_GROUP = "override_gap.sources"


def installed_sources() -> dict[str, str]:
    """Sources of adapters that installed packages offer: name -> `module:object`."""
    return {point.name: point.value for point in entry_points(group=SOURCES_GROUP)}
