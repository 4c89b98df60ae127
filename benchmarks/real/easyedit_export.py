"""MEMIT or ROME in EasyEdit's own environment, written to a file by the export kit.

    python easyedit_export.py BASE documents.jsonl OUT.safetensors [memit|rome]

`kit.py` stands beside this file (`override-gap adapters kit --out .`); EASYEDIT names the repository.
"""

from __future__ import annotations

import json
import sys

import kit  # pyright: ignore[reportMissingImports]
import torch
from easyedit_methods import MEMIT, ROME, easyedit, once, request, seeded
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(base, documents, out, method="memit"):
    """Write each document's edit, with the edited model's own logits for two questions of the first
    two; those for all questions go to OUT.safetensors.native."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tokenizer.padding_side = "right"
    rows = kit.read_documents(documents)
    apply, _, hparams = easyedit()[method]
    execute = once(method)
    settings = {"memit": MEMIT, "rome": ROME}[method]
    hparams, native = hparams(**settings), []

    def factors():
        for row in rows:
            asked = request(
                (q["text"], None if q["split"] == "retention" else q["answer"], q.get("subject"))
                for q in row["questions"]
            )
            with seeded():
                deltas = execute(model, tokenizer, asked if method == "rome" else [asked], hparams)
            with seeded():
                edited = apply(model, tokenizer, [asked], hparams, copy=True)[0]
            for question in row["questions"]:
                ids = tokenizer(question["text"])["input_ids"]
                with torch.no_grad():
                    native.append(
                        (row["key"], question["text"], ids, edited(input_ids=torch.tensor([ids])).logits[0, -1])
                    )
            yield {
                name.removesuffix(".weight"): (
                    key.reshape(len(key), -1).T.float().contiguous(),
                    value.reshape(len(value), -1).float().contiguous(),
                )
                for name, (key, value) in deltas.items()
            }

    def few():
        """Two questions of each of the first two documents, which are there when the last document has been written."""
        for row in rows[:2]:
            yield from [example for example in native if example[0] == row["key"]][:2]

    about = {"method": method, "base": str(base), "settings": settings, "reads_questions": True}
    kit.write(out, rows, factors(), scale=1.0, native=few(), progress=True, **about)
    index = [{"document": key, "text": text, "ids": ids} for key, text, ids, _ in native]
    save_file(
        {"logits": torch.stack([example[3] for example in native])}, f"{out}.native", {"index": json.dumps(index)}
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
