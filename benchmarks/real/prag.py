"""PRAG: adapters trained by its own src/encode.py on the CPU, and its own inference's logits as the oracle.

    python prag.py REPOSITORY ROOT MODEL documents.jsonl [--epochs 3] [--documents-trained N] [--ask N]

Run in that repository's environment. ROOT holds the model folder MODEL and data_aug/benchmark/MODEL/total.json, which
`prag_augment.py` writes; adapters go to ROOT/offline/..., as the repository lays them out, ROOT/map.json says which document
each is of, and ROOT/native.safetensors holds the logits of the first `--ask` documents' questions. Patched from outside: samples
are padded to the longest prompt of their document instead of 3,000 tokens (padding is masked), and the root folder is ROOT.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import torch
from native import NativeLogits, documents

RANK, ALPHA, RATE = 2, 32, 3e-4


def main() -> None:
    """Train what is not trained yet, then run the method's own model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("model")
    parser.add_argument("documents", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--documents-trained", type=int, default=-1, metavar="N", help="0: train nothing")
    parser.add_argument("--ask", type=int, default=8, metavar="N")
    args = parser.parse_args()
    root, texts = args.root.resolve(), list(documents(args.documents))
    place = types.ModuleType("root_dir_path")
    place.ROOT_DIR = str(root)  # type: ignore[attr-defined]
    sys.modules["root_dir_path"] = place
    sys.path.insert(0, str(args.repository.resolve() / "src"))
    os.chdir(root)
    torch.set_num_threads(1)
    if args.documents_trained:
        train(args)
    folder = (
        f"offline/{args.model}/rank={RANK}_alpha={ALPHA}/benchmark/lr={RATE}_epoch={args.epochs}_direct/"
        f"aug_model={args.model}/total"
    )
    data = json.loads(Path(f"data_aug/benchmark/{args.model}/total.json").read_text(encoding="utf-8"))
    places = {row["passages"][0]: f"{folder}/data_{n}/passage_0" for n, row in enumerate(data)}
    places = {d["key"]: places[d["document"]] for d in texts if Path(places.get(d["document"], "none")).is_dir()}
    inside = {key: place.removeprefix("offline/") for key, place in places.items()}  # `--adapter-map` of ROOT/offline
    Path("map.json").write_text(json.dumps(inside, indent=1), encoding="utf-8")

    from peft import PeftModel
    from utils import get_model  # pyright: ignore[reportMissingImports]

    model, tokenizer, _ = get_model(args.model)
    native = NativeLogits(lambda text: tokenizer(text).input_ids, lambda ids: now(ids).logits)
    for document in [d for d in texts if d["key"] in places][: args.ask]:
        now = PeftModel.from_pretrained(model, places[document["key"]], adapter_name="0", is_trainable=False)
        now.add_weighted_adapter(adapters=["0"], weights=[1], adapter_name="merge", combination_type="cat")
        now.set_adapter("merge")
        native.ask(document)
        now.delete_adapter("merge")
        model = now.unload()
    native.write(root / "native.safetensors")


def train(args: argparse.Namespace) -> None:
    """The repository's own training; what is trained already is kept, as its code does."""
    import encode  # pyright: ignore[reportMissingImports]

    begin = encode.TrainingData.__init__

    def shorter(self: Any, prompts: list[list[int]], tokenizer: Any, max_length: int = 3000) -> None:
        begin(self, prompts, tokenizer, max_length=min(max_length, max(map(len, prompts))))

    encode.TrainingData.__init__ = shorter
    encode.main(
        argparse.Namespace(
            model_name=args.model,
            dataset="benchmark",
            data_type=None,
            with_cot=False,
            sample=args.documents_trained,
            augment_model=args.model,
            per_device_train_batch_size=1,
            num_train_epochs=args.epochs,
            learning_rate=RATE,
            lora_rank=RANK,
            lora_alpha=ALPHA,
        )
    )


if __name__ == "__main__":
    main()
