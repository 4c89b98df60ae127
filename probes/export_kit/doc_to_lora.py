"""Export Doc-to-LoRA adapters to one file that override-gap audits. Run it in ctx_to_lora's environment, kit.py beside it.

    python doc_to_lora.py CHECKPOINT DOCUMENTS.jsonl OUT.safetensors

DOCUMENTS.jsonl comes from `override-gap items documents ITEMS --out DOCUMENTS.jsonl`. It imports nothing of override-gap, runs
from any current folder, on CUDA or on the CPU, and holds one document's factors at a time. The checkpoint is a pickle: only
tensors, plain data and the classes in ALLOWED are loaded from it; with `--trust-pickle` all, and then it can run any code.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
kit: Any = importlib.import_module("kit")

METHOD = "doc-to-lora"
QUESTIONS = 4
"""Questions about one document for which the method's own logits are stored, at most."""

# What a checkpoint contains besides tensors: the settings of the hypernetwork, its encoder and its LoRA.
ALLOWED = (
    "builtins.set",
    "ctx_to_lora.configs.CtxEncoderArguments",
    "ctx_to_lora.modeling.aggregator.AGGREGATOR_TYPE",
    "ctx_to_lora.modeling.aggregator.AggregatorConfig",
    "ctx_to_lora.modeling.ctx_encoder.CTX_ENCODER_TYPE",
    "ctx_to_lora.modeling.hypernet.HypernetConfig",
    "ctx_to_lora.pooling.POOL_FN",
    "peft.tuners.lora.config.LoraConfig",
    "peft.tuners.lora.config.LoraRuntimeConfig",
    "peft.utils.peft_types.PeftType",
    "peft.utils.peft_types.TaskType",
)


def load_checkpoint(file: Any) -> dict[str, Any]:
    """A checkpoint's content, loaded with the classes in ALLOWED only. Raises ValueError where it names any other."""
    classes = [known for known in map(_class, ALLOWED) if known is not None]
    # importing a package may have declared more classes safe than are needed here
    declared = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(classes):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        match = re.search(r"GLOBAL (\S+)", str(fault))
        what = f"it names {match[1]}, which is" if match else "its content is"
        raise ValueError(
            f"{file}: {what} not among the classes that a Doc-to-LoRA checkpoint needs (ALLOWED in {Path(__file__).name}), so it "
            "was not opened; --trust-pickle opens it without this check"
        ) from fault
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(declared)


def repository_of(named: Any = None) -> Path:
    """The method's repository: the folder of its chat templates, which it reads relative to the current folder.

    Raises ValueError where it is neither named nor above the installed package: without its templates the method encodes
    documents in another template, without a word.
    """
    if named is not None:
        folder = Path(named).resolve()
        if (folder / "src").is_dir():
            sys.path.insert(0, str(folder / "src"))
        if not (folder / "chat_templates").is_dir():
            raise ValueError(f"{folder}: no folder chat_templates, so this is not Doc-to-LoRA's repository")
        return folder
    package = _import("ctx_to_lora")
    for folder in Path(inspect.getfile(package)).resolve().parents:
        if (folder / "chat_templates").is_dir():
            return folder
    raise ValueError(
        f"{inspect.getfile(package)}: no folder chat_templates above it; name Doc-to-LoRA's repository (--repository FOLDER, or "
        "`,repository=FOLDER` behind the checkpoint in --adapters): without it the method encodes documents in another template, "
        "and says nothing"
    )


@contextlib.contextmanager
def at_repository(repository: Path, state: dict[str, Any], base: Any, scratch: Any) -> Any:
    """Run in the method's repository, where it finds its chat templates; `base` stands in for the base that `state` names.

    The template depends on the base's name. So a folder that replaces it is linked under that name in a temporary folder, with
    the templates beside it; a name without a template of its own is replaced.
    """
    name, before = state["base_model_name_or_path"], Path.cwd()
    with contextlib.ExitStack() as stack:
        where = repository
        if base is not None and not (repository / "chat_templates" / f"{name}.jinja").is_file():
            state["base_model_name_or_path"] = base
        elif base is not None:
            where = Path(scratch) / f".base.{os.getpid()}.tmp"
            stack.callback(shutil.rmtree, where, ignore_errors=True)
            where.mkdir(exist_ok=True)
            (where / "chat_templates").symlink_to(repository / "chat_templates")
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).symlink_to(Path(base).resolve())
        os.chdir(where)
        stack.callback(os.chdir, before)
        yield


def run_anywhere(device: torch.device, dtype: torch.dtype, base_dtype: torch.dtype, full_encoder: bool) -> None:
    """Let the method's own model open on `device`, also without flash-attn. Its own code asks for CUDA, bfloat16 and flash-attn.

    The base is loaded in `base_dtype`, in which the native logits are computed; the encoder in `dtype`. Where flash-attn is
    missing, or on the CPU, the hypernetwork's attention is computed by torch: the same sums.
    """
    hypernet = _import("ctx_to_lora.modeling.hypernet")
    perceiver = _import("ctx_to_lora.modeling.idefics2")
    get_model = hypernet.get_model

    def opened(name: str, *positional: Any, **words: Any) -> Any:
        words.update(device=str(device), dtype=base_dtype if words.get("peft_config") is not None else dtype)
        if full_encoder:
            words["use_q_lora"] = False
        if words.get("use_q_lora") and (device.type != "cuda" or importlib.util.find_spec("bitsandbytes") is None):
            raise ValueError(
                "the checkpoint asks for an encoder quantised to 4 bits, which needs CUDA and bitsandbytes; with "
                "--full-encoder it is run unquantised, and then its adapters are not quite those of the published method"
            )
        model = get_model(name, *positional, **words)
        _require_rotary_base(name, model)
        return model

    hypernet.get_model = opened
    if device.type == "cuda" and importlib.util.find_spec("flash_attn") is not None:
        return

    def enabled(config: Any, *_: Any, **__: Any) -> Any:
        config._attn_implementation = "flash_attention_2"  # the name of the only attention that the method's class has
        return config

    perceiver.Idefics2PreTrainedModel._check_and_enable_flash_attn_2 = staticmethod(enabled)
    perceiver.unpad_input, perceiver._flash_attention_forward = _unpadded, _attention


def _unpadded(states: torch.Tensor, mask: torch.Tensor) -> tuple[Any, ...]:
    """States [batch, seq, d] and mask [batch, seq] as flash-attn's function returns them: rows in use, where each text starts."""
    lengths = mask.sum(1)
    starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    return states[mask.bool()], mask.flatten().nonzero().flatten(), starts, int(lengths.max()), lengths


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, is_causal: bool, **words: Any
) -> torch.Tensor:
    """Attention of packed texts [., ., head, d_head], each of whose queries sees the keys of its own text."""
    if is_causal:
        raise ValueError(
            "this version of ctx_to_lora asks for causal attention, which is not provided without flash-attn"
        )
    flat = [states.reshape(-1, *states.shape[-2:]) for states in (query, key, value)]
    starts = [words[f"cu_seq_lens_{side}"].tolist() for side in "qkk"]
    rows = []
    for n in range(len(starts[0]) - 1):
        q, k, v = (f[s[n] : s[n + 1]].transpose(0, 1)[None] for f, s in zip(flat, starts))
        rows.append(torch.nn.functional.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1))
    return torch.cat(rows).reshape(query.shape)


def _require_rotary_base(name: str, model: Any) -> None:
    """Raise ValueError where a base that transformers 5 saved is opened by version 4, which reads its rotary base as 10,000."""
    file = Path(name) / "config.json"
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    theta = (stored.get("rope_parameters") or {}).get("rope_theta")
    read = getattr(model.config, "rope_theta", theta)
    if theta is not None and read != theta:
        raise ValueError(
            f"{file}: transformers here reads a rotary base of {read:g}, and the model's is {theta:g}: the file was written by "
            f'transformers 5; add "rope_theta": {theta:g} to it, which both versions read'
        )


def open_model(state: dict[str, Any]) -> Any:
    """The method's own model, from a checkpoint's content."""
    model = _import("ctx_to_lora.modeling.hypernet").ModulatedPretrainedModel.from_state_dict(
        state, train=False, use_sequence_packing=False, use_flash_attn=False
    )
    return model.eval()


def head_bias(model: Any) -> Any:
    """The part that every document shares, per module A [layer, r, d_in] and B [layer, r, d_out]; empty where there is none."""
    used = getattr(getattr(model.hypernet, "config", None), "use_bias", True)
    return model.hypernet.get_head_bias() if used is not False else {}


class Tokens:
    """Texts as the method reads them: a document in its template, and a question as it stands."""

    def __init__(self, model: Any) -> None:
        get_tokenizer = _import("ctx_to_lora.model_loading").get_tokenizer
        self._in_template = _import("ctx_to_lora.data.processing").tokenize_ctx_text
        self.encoder = get_tokenizer(model.ctx_encoder.base_model.name_or_path)
        self.base = get_tokenizer(model.base_model.name_or_path)
        if not self.encoder.chat_template:
            raise ValueError(f"{self.encoder.name_or_path}: no chat template, so the method cannot encode a document")
        self.most = int(getattr(model.ctx_encoder.config, "max_position_embeddings", sys.maxsize))

    def document(self, text: str) -> list[int]:
        """A document's tokens. Raises ValueError where it is longer than the encoder: the method reads a document whole here."""
        ids = self._in_template({"context": [text]}, self.encoder)["ctx_ids"][0]
        if len(ids) > self.most:
            raise ValueError(f"document {text[:40]!r} has {len(ids)} tokens, and the encoder reads {self.most}")
        return ids

    def question(self, row: Any) -> list[int]:
        """A question's tokens: as stated, or its text as the base's tokenizer splits it."""
        return row.get("ids") or self.base(row["text"])["input_ids"]

    def template(self) -> str:
        """What the method puts around a document, with {document}; the document itself is stripped of outer space."""
        mark = "override-gap-document"
        return self.encoder.decode(self.document(mark)).replace(mark, "{document}")


@torch.no_grad()
def document_factors(model: Any, ids: list[int]) -> Any:
    """The document's own factors, without the head bias: per module A [layer, r, d_in] and B [layer, r, d_out].

    The method puts the ranks of the head bias behind those of the document. Raises ValueError where the installed version does
    otherwise.
    """
    combine_lora = _import("ctx_to_lora.modeling.lora_merger").combine_lora
    model._internalize_from_ids(torch.tensor([ids], device=model.device))
    own, bias = model.generated_loras, head_bias(model)
    joined = combine_lora(own, torch.tensor([1], device=model.device), lora_bias=bias or None)
    for module, sides in joined.items():
        for side in ("A", "B"):
            parts = [own[module][side], *([bias[module][side][None]] if bias else [])]
            if not torch.equal(sides[side], torch.cat([part.to(sides[side]) for part in parts], 2)):
                raise ValueError(f"{module}: what combine_lora returns is not the document's ranks, then the head bias")
    return {module: {side: sides[side][0] for side in ("A", "B")} for module, sides in own.items()}


@torch.no_grad()
def native_logits(model: Any, document: list[int], question: list[int]) -> torch.Tensor:
    """[vocab] of the method's own adapted model at the question's last token, by the method's own forward."""
    context = torch.tensor([document], device=model.device)
    output = model(
        ctx_ids=context,
        ctx_attn_mask=torch.ones_like(context),
        n_ctx_chunks=torch.tensor([1], device=model.device),
        input_ids=torch.tensor([question], device=model.device),
    )
    return output.logits[0, -1]


def by_path(model: Any, modules: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Factors per module and layer as (A [r, d_in], B [d_out, r]) by the path of the plain base's map. Raises ValueError."""
    layers, factors = [int(n) for n in model.hypernet.layer_indices], {}
    for module, sides in modules.items():
        for layer in layers:
            found = [
                name
                for name, part in model.base_model.named_modules()
                if hasattr(part, "base_layer") and re.search(rf"\.{layer}\.(?:.*\.)?{re.escape(module)}$", name)
            ]
            if len(found) != 1:
                raise ValueError(f"need one {module} in layer {layer} of the base, found {len(found)}")
            # the method indexes the factors' layers by the layer's number
            path = found[0].removeprefix("base_model.model.")
            factors[path] = (sides["A"][layer].float(), sides["B"][layer].float().T)
    return factors


def export(model: Any, documents: Any, out: Any, settings: Any, count: int, gains: Any = None) -> None:
    """Encode every document once and write the file, with native logits for the first `count` that are asked about.

    At `gains` there are none, since those are of the method as delivered.
    """
    tokens, native = Tokens(model), []
    asked_about = [document["document"] for document in documents if document.get("questions")]
    asked_about = asked_about[: 0 if gains is not None else count]

    def factors() -> Any:
        print(f"document 0 of {len(documents)}", file=sys.stderr, flush=True)  # the model is open
        for document in documents:
            ids = tokens.document(document["document"])
            yield by_path(model, document_factors(model, ids))
            for question in document["questions"][:QUESTIONS] if document["document"] in asked_about else ():
                asked, key = tokens.question(question), kit.text_key(document["document"])
                native.append((key, question["text"], asked, native_logits(model, ids, asked)))

    alpha = float(model.peft_config.lora_alpha)
    stated = {"lora_alpha": alpha, "rank": int(model.peft_config.r), "chat_template": tokens.base.chat_template}
    kit.write(
        out,
        documents,
        factors(),
        method=METHOD,
        scale=alpha,  # raw: the method's forward does not divide by the rank
        shared=by_path(model, head_bias(model)),
        native=native if gains is None else None,
        gains=gains,
        base=str(model.base_model.name_or_path),
        template=tokens.template(),
        settings={**settings, **stated},
        progress=True,
    )


def main(argv: Any = None) -> int:
    """Write the file; returns 2 and prints one line where that cannot be done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("checkpoint", "documents", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument(
        "--trust-pickle", action="store_true", help="open the checkpoint without restriction: it can run code"
    )
    parser.add_argument(
        "--repository", type=Path, help="Doc-to-LoRA's repository, where it is not above the installed package"
    )
    parser.add_argument("--base", type=Path, help="a folder that holds the base which the checkpoint names")
    parser.add_argument("--device", default="auto", help="auto (default: CUDA where there is one), cpu, cuda or cuda:N")
    parser.add_argument("--base-dtype", default="float32", choices=("float32", "bfloat16"), help="of the native logits")
    parser.add_argument(
        "--full-encoder", action="store_true", help="do not quantise the encoder, though the checkpoint says so"
    )
    parser.add_argument(
        "--native", type=int, default=2, metavar="N", help="documents with the method's own logits (default 2)"
    )
    parser.add_argument("--gains", type=Path, help="a gains.json: write the adapters at its gains")
    args = parser.parse_args(argv)
    try:
        _run(args)
    except (ValueError, OSError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    return 0


def _run(args: Any) -> None:
    checkpoint, out = args.checkpoint.resolve(), args.out.resolve()
    documents = kit.read_documents(args.documents)
    repository = repository_of(args.repository)
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(chosen if args.device == "auto" else args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    run_anywhere(device, dtype, getattr(torch, args.base_dtype), args.full_encoder)
    state = (
        torch.load(checkpoint, map_location="cpu", weights_only=False)
        if args.trust_pickle
        else load_checkpoint(checkpoint)
    )
    quantised = bool(getattr(state["ctx_encoder_args"], "quantize_ctx_encoder", False)) and not args.full_encoder
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(checkpoint, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(2**24):
            digest.update(block)
    versions = {name: _import(name).__version__ for name in ("torch", "transformers", "peft")}
    settings = {
        "checkpoint_sha256": digest.hexdigest(),
        "device": device.type,
        "encoder": "4 bits" if quantised else str(dtype).removeprefix("torch."),
        "base_dtype": args.base_dtype,
        "versions": versions,
    }
    with at_repository(repository, state, args.base, out.parent):
        export(open_model(state), documents, out, settings, args.native, args.gains)


def _import(name: str) -> Any:
    """A module of the method's environment. Raises ValueError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as fault:
        if fault.name is not None and name.startswith(fault.name):
            raise ValueError(
                f"the package {fault.name} is not installed for {sys.executable}; run this in Doc-to-LoRA's own environment"
            ) from fault
        raise


def _class(path: str) -> Any:
    """The class at a dotted path; None where the installed version of the package has none."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
