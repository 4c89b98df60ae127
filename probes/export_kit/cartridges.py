"""Export Cartridges: python cartridges.py FOLDER documents.jsonl OUT.safetensors --repo cartridges --base MODEL.

Run in its environment, with kit.py and script.py beside it. FOLDER holds a trained cache per document: NAME.pt or
NAME/cache_last.pt, where NAME is the document's key, or an id or a point of its items. A cache is a prefix of keys and
values, not a weight update, so the file is one for `--adapters prefix:FILE`; it has no scale. The caches are pickles, which
the repository's own loader opens.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kit  # pyright: ignore
import script  # pyright: ignore
import torch

KINDS = ("fixed_keys", "trainable_keys", "fixed_values", "trainable_values")


def cache_file(folder: Path, document: Mapping[str, Any]) -> Path:
    """The file of a document's cache. Raises ValueError where there is none, or several of equal right."""
    for names in ([document["key"]], document.get("ids") or [], document.get("points") or []):
        files = [folder / f"{name}.pt" for name in names] + [folder / name / "cache_last.pt" for name in names]
        found = [file for file in dict.fromkeys(files) if file.is_file()]
        if len(found) > 1:
            first, second = (file.relative_to(folder) for file in found[:2])
            raise ValueError(f"{folder}: document {document['key']} has both {first} and {second}; keep one")
        if found:
            return found[0]
    raise ValueError(f"{folder}: no cache for document {document['key']}; name it {document['key']}.pt")


def main() -> None:
    """Write every document's cache, and the logits of the method's own model behind it."""
    parser = script.command_line(__doc__, "the repository, with the package cartridges")
    parser.add_argument("--base", required=True, help="the base model, a folder or a name")
    args = parser.parse_args()
    if args.gains is not None:
        raise ValueError("--gains: keys and values are no update of the weights, so they have no gain")
    documents = kit.read_documents(args.documents)
    files = [cache_file(Path(args.checkpoint), document) for document in documents]
    sys.path.insert(0, str(Path(args.repo).resolve()))
    from cartridges.cache import TrainableCache  # pyright: ignore
    from cartridges.models.llama import LlamaForCausalLM  # pyright: ignore
    from transformers import AutoTokenizer  # pyright: ignore

    model = LlamaForCausalLM.from_pretrained(args.base, torch_dtype=torch.float32, attn_implementation="sdpa")
    model.to(args.device).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    questions, native = script.native_questions(documents, args.native), []
    with kit.TensorFile(args.out) as out, torch.no_grad():
        for number, (document, file) in enumerate(zip(documents, files)):
            key = document["key"]
            cache = TrainableCache.from_pretrained(str(file), device=args.device)
            for kind in KINDS:
                for layer, tensor in enumerate(getattr(cache, kind)):
                    out.put(f"documents/{key}/{kind}/{layer}", tensor.detach().cpu().contiguous())
            if key in questions:
                ids = tokenizer(questions[key], return_tensors="pt").input_ids.to(args.device)
                logits = model(ids, use_cache=True, past_key_values=cache.float()).logits[0, -1].float().cpu()
                out.put(f"native/{len(native)}", logits.contiguous())
                asked = {"document": key, "text": questions[key], "ids": ids[0].tolist()}
                native.append({**asked, "logits": f"native/{len(native)}"})
            print(f"document {number + 1} of {len(documents)}", file=sys.stderr, flush=True)
        out.close({"method": "cartridges", "base": args.base, "native": json.dumps(native)})


if __name__ == "__main__":
    script.run(main)
