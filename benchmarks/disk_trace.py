"""What a process asks of the disk, recorded by `disk_trace.c`; and what a disk may hold where the power fails.

A write is safe once its file was flushed, a name once its folder was: until then a disk may hold it or not, and may hold a
later one without an earlier one. `Disk` replays a record up to some request and then gives one tree that may be found:

- strictly: everything that was not flushed is forgotten;
- at random: every page of a write, every change of a file's length and every change of a name is kept or forgotten by a draw
  of its own, so that a renamed file may be empty, hold some of its pages, or zeros where they should be.

A rename is kept or forgotten as one, as file systems with a journal do it; a new file's name needs its folder flushed, as
POSIX says, although ext4 and others flush it along with the file.
"""

from __future__ import annotations

import atexit
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parent / "disk_trace.c"
HEAD = struct.Struct("=IIIIQQ")
PAGE = 4096
SWITCHES = ("ROOT", "LOG", "KILL", "FAIL")


class Incomplete(RuntimeError):
    """The record lacks something that the process did, so that nothing may be concluded from it."""


def compiled(folder: Path) -> Path | None:
    """The library, compiled into a folder; None where there is no C compiler or no Linux."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").is_dir():
        return None
    library = folder / "disk_trace.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    return library if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


def start_again_with_library() -> bool:
    """Replace this process by one that has the library loaded; False where it cannot be compiled, True once it is loaded."""
    if "DISK_TRACE_LOADED" in os.environ:
        atexit.register(shutil.rmtree, os.environ["DISK_TRACE_LOADED"], ignore_errors=True)
        return True
    folder = tempfile.mkdtemp(prefix="override-gap-trace-")
    library = compiled(Path(folder))
    if library is None:
        shutil.rmtree(folder)
        return False
    sys.stdout.flush()
    environment = {**os.environ, "LD_PRELOAD": str(library), "DISK_TRACE_LOADED": folder}
    return os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def watch(root: Path, log: Path | None = None, kill: int | None = None, fail: str | None = None) -> None:
    """Switch the recording of this process on, for a folder; the process must have been started with the library.

    `kill`: the process dies before that request, counted from 1. `fail`: "OPS:N:ERRNO", see disk_trace.c.
    """
    values = (str(root.resolve()), log, kill, fail)
    for name, value in zip(SWITCHES, values, strict=True):
        if value is not None:
            os.environ[f"DISK_TRACE_{name}"] = str(value)


BROWSERS_OWN = re.compile(r"/\.[^/]+\.pdf\.[0-9]+\.tmp/")
"""What a browser writes while it prints a PDF: links, mapped files, all removed with the folder; not followed."""


@dataclass(frozen=True)
class Request:
    """One request: its letter (see disk_trace.c), the paths below the root, inode, offset or length, and bytes."""

    kind: str
    path: str
    second: str
    inode: int
    at: int
    data: bytes


def read_log(log: Path, root: Path) -> list[Request]:
    """The requests of a log. Raises Incomplete for one of a kind that cannot be followed."""
    content, at, found = log.read_bytes() if log.exists() else b"", 0, []
    start = str(root.resolve())
    while at < len(content):
        kind, first, second, size, inode, where = HEAD.unpack_from(content, at)
        at += HEAD.size
        texts = []
        for length in (first, second):
            texts.append(os.fsdecode(content[at : at + length]))
            at += length
        own = [BROWSERS_OWN.search(text) is not None for text in texts if text]
        if own and own[0] and (all(own) or chr(kind) in "SX"):  # the second text of these two is no path
            at += size
            continue
        if chr(kind) == "S":
            raise Incomplete(f"a symbolic link was made at {texts[0]}")
        if chr(kind) == "X":
            raise Incomplete(f"{texts[0]}: {texts[1] or 'not followed'}")
        paths = [os.path.relpath(text, start) if text else "" for text in texts]
        paths = [path.removesuffix(" (deleted)") for path in paths]
        found.append(Request(chr(kind), *paths, inode, where, content[at : at + size]))
        at += size
    return found


@dataclass(eq=False)
class File:
    """A file: its bytes as the process sees them, those that are safe, and the changes between."""

    now: bytearray = field(default_factory=bytearray)
    safe: bytes = b""
    unsafe: list[tuple[int, bytes | None]] = field(default_factory=list)  # offset and bytes, or new length and None

    def write(self, at: int, data: bytes) -> None:
        if len(self.now) < at:
            self.now.extend(bytes(at - len(self.now)))
        self.now[at : at + len(data)] = data
        self.unsafe.append((at, data))

    def resize(self, size: int) -> None:
        del self.now[size:]
        self.now.extend(bytes(size - len(self.now)))
        self.unsafe.append((size, None))

    def flush(self) -> None:
        self.safe = bytes(self.now)
        self.unsafe.clear()

    def found(self, rng: random.Random | None, share: float) -> bytes:
        """What a disk may hold: the safe bytes, and by `rng` a share of the changes since."""
        if rng is None or not self.unsafe:
            return self.safe
        content = bytearray(self.safe)
        for at, data in self.unsafe:
            if data is None:
                if rng.random() < share:
                    del content[at:]
                    content.extend(bytes(at - len(content)))
                continue
            for page in range(at - at % PAGE, at + len(data), PAGE):
                first, last = max(page, at), min(page + PAGE, at + len(data))
                if rng.random() < share:
                    content.extend(bytes(max(0, first - len(content))))
                    content[first:last] = data[first - at : last - at]
        if len(content) < len(self.now) and rng.random() < share / 2:
            content.extend(bytes(len(self.now) - len(content)))  # the length was kept, the bytes were not
        return bytes(content)


@dataclass(eq=False)
class Change:
    """A change of names that is not safe yet: `name` of `folder` becomes `node` (None: removed), and `source` goes."""

    folder: Folder
    name: str
    node: Node | None
    source: tuple[Folder, str, Node] | None = None

    def apply(self, names: Mapping[Folder, dict[str, Node]]) -> None:
        """Apply it to the names of each folder that has one here."""
        if self.source is not None:
            before, old, moved = self.source
            if before in names and names[before].get(old) is moved:
                del names[before][old]
        if self.folder not in names:
            return
        if self.node is None:
            names[self.folder].pop(self.name, None)
        else:
            names[self.folder][self.name] = self.node


@dataclass(eq=False)
class Folder:
    """A folder: its names as the process sees them, those that are safe, and the changes between."""

    now: dict[str, Node] = field(default_factory=dict)
    safe: dict[str, Node] = field(default_factory=dict)


Node = File | Folder


class Disk:
    """A tree of files that follows a record of requests and knows what of it is safe."""

    def __init__(self, root: Path, flushed_files: bool = True, flushed_folders: bool = True) -> None:
        """The tree below `root` as it is, all of it safe. Without `flushed_files` or `flushed_folders` fsync of those does
        nothing, as if it had not been called.
        """
        self.files: dict[int, File] = {}
        self.top = self._load(root)
        self.unsafe: list[Change] = []
        self.flushed_files, self.flushed_folders = flushed_files, flushed_folders

    def _load(self, folder: Path) -> Folder:
        node = Folder()
        for entry in sorted(folder.iterdir()):
            if entry.is_dir():
                node.now[entry.name] = self._load(entry)
            else:
                content = entry.read_bytes()
                node.now[entry.name] = self.files[entry.stat().st_ino] = File(bytearray(content), content)
        node.safe = dict(node.now)
        return node

    def _folder(self, path: str) -> Folder:
        node: Node = self.top
        for part in Path(path).parts:
            found = node.now.get(part) if isinstance(node, Folder) else None
            if found is None:
                raise Incomplete(f"the record does not say how {path} came to be")
            node = found
        if not isinstance(node, Folder):
            raise Incomplete(f"{path} is no folder in the record")
        return node

    def _place(self, path: str) -> tuple[Folder, str]:
        return self._folder(os.path.dirname(path)), os.path.basename(path)

    def _change(self, change: Change) -> None:
        everything = {folder: folder.now for folder in (change.folder, *([change.source[0]] if change.source else []))}
        change.apply(everything)
        self.unsafe.append(change)

    def follow(self, request: Request) -> None:
        """Replay one request. Raises Incomplete where it does not fit what was recorded before."""
        kind, path = request.kind, request.path
        if kind == "O":
            folder, name = self._place(path)
            if request.inode in self.files:
                self.renamed_unseen(self.files[request.inode], path)
            node = folder.now.get(name)
            if not isinstance(node, File) or self.files.get(request.inode) is not node:
                node = self.files[request.inode] = File()
                self._change(Change(folder, name, node))
            elif request.at and node.now:
                node.resize(0)
        elif kind in "WTF":
            node = self.files.get(request.inode)
            if node is None:
                raise Incomplete(f"{path} was not opened in the record")
            if kind == "W":
                node.write(request.at, request.data)
            elif kind == "T":
                node.resize(request.at)
            elif self.flushed_files:
                self.renamed_unseen(node, path)
                node.flush()
        elif kind == "M":
            folder, name = self._place(path)
            self._change(Change(folder, name, Folder()))
        elif kind in "UD":
            folder, name = self._place(path)
            self._change(Change(folder, name, None))
        elif kind in "RL":
            self._moved(request)
        elif kind == "G" and self.flushed_folders:
            self._flush(self._folder(path))
        elif kind == "Y":
            for file in self.files.values():
                file.flush()
            for change in list(self.unsafe):
                self._flush(change.folder)

    def _moved(self, request: Request) -> None:
        if not request.path or not request.second:
            raise Incomplete(f"a file was moved into or out of the watched folder: {request.path or request.second}")
        into, new = self._place(request.second)
        folder, name = self._place(request.path)
        node = folder.now.get(name)
        if node is None and request.inode in self.files:
            node = self.files[request.inode]
            self.renamed_unseen(node, request.path)
        if node is None:
            raise Incomplete(f"the record does not say how {request.path} came to be")
        self._change(Change(into, new, node, (folder, name, node) if request.kind == "R" else None))

    def renamed_unseen(self, node: File, path: str) -> None:
        """Rust's rustix renames without the C library (safetensors does so with its own temporary): the inode says so."""
        folder, name = self._place(path)
        if folder.now.get(name) is node:
            return
        old = next((key for key, other in folder.now.items() if other is node), None)
        if old is not None:
            self._change(Change(folder, name, node, (folder, old, node)))

    def _flush(self, folder: Folder) -> None:
        mine = [change for change in self.unsafe if change.folder is folder]
        for change in mine:
            names = {folder: folder.safe}
            if change.source is not None:
                names[change.source[0]] = change.source[0].safe
            change.apply(names)
        self.unsafe = [change for change in self.unsafe if change.folder is not folder]

    def as_seen(self) -> dict[str, bytes]:
        """The files as the process sees them, by path."""
        return {path: bytes(file.now) for path, file in _walk(self.top, lambda folder: folder.now) if file is not None}

    def after_power_loss(self, out: Path, rng: random.Random | None = None) -> None:
        """Write into a new folder what may be found: strictly what is safe, or with `rng` some of the rest as well."""
        share = 0.0 if rng is None else rng.choice((0.1, 0.5, 0.9))
        names: dict[Folder, dict[str, Node]] = {}
        if rng is not None:
            for change in self.unsafe:
                for folder in (change.folder, *([change.source[0]] if change.source else [])):
                    names.setdefault(folder, dict(folder.safe))
            for change in self.unsafe:
                if rng.random() < share:
                    change.apply(names)
        out.mkdir()
        for path, file in _walk(self.top, lambda folder: names.get(folder, folder.safe)):
            if file is None:
                (out / path).mkdir()
            else:
                (out / path).write_bytes(file.found(rng, share))


def _walk(folder: Folder, names_of, path: str = "") -> Iterator[tuple[str, File | None]]:
    """Every file and folder (None) below a folder, by path; `names_of` gives a folder's names."""
    for name, node in sorted(names_of(folder).items()):
        place = f"{path}/{name}" if path else name
        if isinstance(node, Folder):
            yield place, None
            yield from _walk(node, names_of, place)
        else:
            yield place, node


def require_complete(disk: Disk, root: Path) -> None:
    """Raise Incomplete unless a replayed record gives the files that the process left, byte for byte."""
    for file in root.rglob("*"):
        node = disk.files.get(file.stat().st_ino)
        if file.is_file() and node is not None:
            disk.renamed_unseen(node, str(file.relative_to(root)))
    seen = disk.as_seen()
    real = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    wrong = sorted({path for path in {*seen, *real} if seen.get(path) != real.get(path)})
    if wrong:
        raise Incomplete(f"the record gives other files than the process left: {', '.join(wrong[:4])}")
