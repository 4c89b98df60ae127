"""Everything that the packages write goes through `margins.whole_files`; what does not is stated here with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.test_imports import FILES, ROOT

ALWAYS = {
    "write_text", "write_bytes", "savefig", "print_svg", "print_png", "print_pdf", "mkdtemp", "mkstemp", "TemporaryDirectory",
    "NamedTemporaryFile", "TemporaryFile", "rename", "renames", "copyfile", "copy2", "copytree", "copyfileobj", "move",
    "save_file", "save_pretrained", "to_parquet", "to_excel",
    "to_pickle", "write_table", "symlink_to", "hardlink_to", "mkdir", "makedirs", "truncate", "touch", "put_file", "extract",
}  # fmt: skip
"""Names that write, whatever they are called on."""
OWN = {"write_text", "write_bytes", "move"}
"""Of these, names of `whole_files` itself: called as a plain name they are the one way to write."""
OF_MODULES = {
    ("torch", "save"),
    ("np", "save"),
    ("np", "savez"),
    ("numpy", "save"),
    ("json", "dump"),
    ("os", "replace"),
}
SCRATCH = "a folder of the system's for temporary files, not beside anything of the user's"
WITHIN = "the temporary of write_whole, or within the temporary folder of whole_folder"
NAMELESS = "columns, to a file of the run's folder that is unlinked at once and that nothing but this process reads"
ALLOWED = {
    ("analyses/components.py", "rename"): "columns of a data frame",
    ("analyses/mapped_columns.py", "TemporaryFile"): NAMELESS,
    ("analyses/mapped_columns.py", "truncate"): NAMELESS,
    ("analyses/readings.py", "move"): NAMELESS,
    ("margins/scratch.py", "TemporaryDirectory"): SCRATCH,
    ("margins/scratch.py", "mkdir"): "a folder under the one temporary name, which never becomes the target",
    ("margins/whole_files.py", "write_bytes"): "this is the one way to write",
    ("margins/whole_files.py", "mkdir"): "this is the one way to write",
    ("margins/whole_files.py", "replace"): "this is the one way to write",
    ("probes/applied/peft_model.py", "save"): "into memory",
    ("probes/export_kit/doc_to_lora.py", "mkdir"): "runs without this package: a folder named as a temporary, of links",
    (
        "probes/export_kit/doc_to_lora.py",
        "symlink_to",
    ): "runs without this package: a folder named as a temporary, of links",
    ("probes/export_kit/kit.py", "copyfileobj"): "runs without this package: the same steps, tests/probes/export_kit",
    ("probes/export_kit/kit.py", "mkdir"): "runs without this package: the same steps, tests/probes/export_kit",
    ("probes/export_kit/kit.py", "open"): "runs without this package: the same steps, tests/probes/export_kit",
    ("probes/export_kit/kit.py", "replace"): "runs without this package: the same steps, tests/probes/export_kit",
    ("probes/organism/load.py", "save_file"): WITHIN,
    ("probes/organism/load.py", "save_pretrained"): WITHIN,
    ("probes/run/exported.py", "mkdtemp"): SCRATCH,
    ("probes/run/shards.py", "copyfile"): WITHIN,
    ("probes/run/shards.py", "mkdir"): WITHIN,
    ("probes/smollm2/fetch.py", "TemporaryDirectory"): WITHIN,
    ("probes/smollm2/fetch.py", "extract"): WITHIN,
    ("probes/smollm2/fetch.py", "save_pretrained"): WITHIN,
    ("probes/smollm2/hypernetwork_folder.py", "save_file"): WITHIN,
    ("probes/smollm2/training.py", "save"): WITHIN,
    ("probes/sources/own_environment.py", "open"): "the log of another program, which is read while it grows",
    ("probes/sources/peft_gains.py", "save"): "into memory",
    ("probes/sources/peft_write.py", "save_file"): WITHIN,
    ("probes/store/files.py", "open"): "the file that shows whether a folder can be written; it is removed at once",
    ("probes/store/folder.py", "write_table"): WITHIN,
    ("probes/store/lock.py", "touch"): "an empty file that tells the disk's clock; it is removed at once",
    ("probes/store/remote.py", "makedirs"): "of a file system at a URL",
    ("probes/store/remote.py", "mkdir"): SCRATCH,
    ("probes/store/remote.py", "put_file"): "of a file system at a URL; tests/probes/store/test_remote.py",
    ("probes/subject/load.py", "symlink_to"): SCRATCH,
    ("reports/figures/style.py", "print_pdf"): "drawn in memory, then write_bytes",
    ("reports/figures/style.py", "print_png"): "drawn in memory, then write_bytes",
    ("reports/figures/style.py", "print_svg"): "drawn in memory, then write_bytes",
}


def written(tree: ast.AST) -> set[str]:
    """The names of calls in a file that may write, and of functions that write and are handed on."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ALWAYS:
            found.add(node.attr)
        elif isinstance(node, ast.Name) and node.id in ALWAYS - OWN:
            found.add(node.id)
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr) in OF_MODULES
        ):
            found.add(node.attr)
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "save"
            and ast.unparse(node.value).endswith("safetensors.torch")
        ):
            found.add("save")
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr
            if isinstance(node.func, ast.Attribute)
            else node.func.id
            if isinstance(node.func, ast.Name)
            else ""
        )
        if name == "open":
            modes = [*node.args, *(word.value for word in node.keywords if word.arg == "mode")]
            texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
            if any(set(text) & set("wax") and set(text) <= set("rwaxbt+") for text in texts):
                found.add("open")
        one_argument = isinstance(node.func, ast.Attribute) and len(node.args) == 1 and not node.keywords
        if name == "replace" and one_argument:  # a text's takes two, a datetime's and a data frame's take words
            found.add("replace")
        if name in ("to_csv", "to_json", "to_html") and node.args:
            found.add(name)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_is_written_by_another_way(file: Path) -> None:
    name = str(file.relative_to(ROOT))
    stated = {word for path, word in ALLOWED if path == name}
    assert written(ast.parse(file.read_text())) == stated, (
        f"{name}: write by margins.whole_files, or state why not, in this file"
    )


@pytest.mark.parametrize(
    "source",
    [
        "Path(x).write_text('y')", "open(x, 'w')", "x.open(mode='ab')", "fig.savefig(x)", "tempfile.mkdtemp()", "a.rename(b)",
        "a.replace(b)", "os.replace(a, b)", "functools.partial(torch.save, state)", "json.dump(a, b)", "shutil.copyfile(a, b)",
        "frame.to_csv(x)", "save_file(t, x)", "from_x(mkdtemp)", "model.save_pretrained(x)", "x.open('r+').truncate()",
    ],
)  # fmt: skip
def test_the_walk_sees_every_way_of_writing(source: str) -> None:
    assert written(ast.parse(source))


def test_the_walk_lets_the_one_way_and_reading_pass() -> None:
    source = (
        "write_text(a, b); a.replace('x', 'y'); open(a); a.open('rb'); frame.to_csv(index=False); write_whole(a, b)"
    )
    assert not written(ast.parse(source))
