"""Fuzz: files that nobody would write, given to the readers; each ends in a value or in the reader's own error, in time.

python -m benchmarks.fuzz --cases 1000000 --report docs/fuzz.md      # mutated bytes and mutated structure, by a seed
python -m benchmarks.fuzz --engine hypothesis --cases 2000           # values drawn by hypothesis
python -m benchmarks.fuzz --engine atheris --target plan             # guided by coverage; needs the extra `fuzz`

What ends otherwise is written to tests/crashers/TARGET-HASH, where tests/test_crashers.py reads it ever after.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fuzz_targets import SEEDS, TARGETS, Target

CRASHERS = Path(__file__).parent.parent / "tests" / "crashers"
SECONDS = 10
ODD = [
    *(None, True, False, 0, -1, 1e308, -0.0, 10**30, 2**63, [], [[]], {}, {"": {}}, [None], ["a", 1]),
    *("", "\0", "\ud800", "\u202e", "{}", "{0.__class__}", "../../x", "NaN", "a" * 300, "(a+)+$"),
]
TOKENS = [
    *(
        b"NaN",
        b"1e999",
        b"-Infinity",
        b'"\\ud800"',
        b"[" * 2000,
        b'{"a":' * 300,
        b"9" * 5000,
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
    ),
    *(b"\r", b"\n", b'"', b",", b"|", b"\\u0000", b"[[", b"]]", b"= ", b"'''", b"\0" * 7 + b"\x80", b"-1", b"null"),
]


class Hang(BaseException):
    """A case that took longer than SECONDS."""


def main(argv: list[str] | None = None) -> int:
    """Run the cases of every target, or of one; exit code 1 if any ended as it must not."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    made.add_argument("--engine", choices=("mutate", "hypothesis", "atheris"), default="mutate")
    made.add_argument("--cases", type=int, default=20_000, help="in all, shared evenly among the targets")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--target", choices=sorted(TARGETS), action="append", help="one or more; default: all")
    made.add_argument("--report", type=Path, help="a Markdown table of what was run")
    args = made.parse_args(argv)
    names = args.target or sorted(TARGETS)
    if args.engine == "atheris":
        return by_coverage(names[0], args.cases, args.seed)
    rows, share = [], -(-args.cases // len(names))
    for name in names:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=shared_memory()) as folder, TARGETS[name](Path(folder)) as target:
            cases = mutated(name, share, args.seed) if args.engine == "mutate" else drawn(name, share, args.seed)
            ended = Counter(outcome(name, target, raw) for raw in cases)
        seconds = time.monotonic() - started
        rows.append((name, ended["value"], ended["refused"], ended["crash"], seconds))
        print(f"{name}: {sum(ended.values()):,} cases in {seconds:.0f} s: {dict(ended)}", file=sys.stderr, flush=True)
    text = table(rows, args.engine, args.seed)
    print(text)
    if args.report:
        args.report.write_text(text + "\n", encoding="utf-8")
    return 1 if any(row[3] for row in rows) else 0


def shared_memory() -> str | None:
    """A folder in memory where there is one, since every case is a file."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def outcome(name: str, target: Target, raw: bytes) -> str:
    """value, refused or crash; a crash is kept."""

    def late(*_: Any) -> None:
        raise Hang

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return "value" if target(raw) else "refused"
    except KeyboardInterrupt:
        raise
    except BaseException as fault:
        CRASHERS.mkdir(exist_ok=True)
        kept = CRASHERS / f"{name}-{hashlib.sha256(raw).hexdigest()[:12]}"
        if len(list(CRASHERS.glob(f"{name}-*"))) < 50:
            kept.write_bytes(raw)
        print(f"{kept}: {type(fault).__name__}: {str(fault)[:200]}", file=sys.stderr, flush=True)
        return "crash"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def mutated(name: str, count: int, seed: int) -> Iterator[bytes]:
    """Seeds of a target with some of their bytes or some of their values changed; the same seed makes the same cases."""
    rng = random.Random(f"{name}:{seed}")
    seeds = SEEDS[name]()
    for _ in range(count):
        raw = rng.choice(seeds)
        change = reshaped if rng.random() < 0.5 else spoilt
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            raw = change(raw, rng, seeds)
        yield raw


def spoilt(raw: bytes, rng: random.Random, seeds: list[bytes]) -> bytes:
    """One place of the bytes changed: a bit, a slice removed, doubled or taken from elsewhere, an odd token put in."""
    at, to = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    to = min(to, at + rng.choice((1, 4, 16, 256)))
    other = rng.choice(seeds)
    start = rng.randrange(len(other) + 1)
    middle = rng.choice(
        (
            lambda: bytes(byte ^ (1 << rng.randrange(8)) for byte in raw[at:to]),
            lambda: b"",
            lambda: raw[at:to] * 2,
            lambda: other[start : start + rng.choice((1, 8, 64))],
            lambda: rng.choice(TOKENS),
            lambda: raw[at:to] + rng.choice(TOKENS),
            lambda: rng.randbytes(rng.choice((1, 2, 8))),
        )
    )()
    return raw[:at] + middle + raw[to:]


def reshaped(raw: bytes, rng: random.Random, seeds: list[bytes], odd: Sequence[Any] = ODD) -> bytes:
    """One value of the JSON in the bytes exchanged, dropped or renamed; bytes that hold none are spoilt instead.

    The JSON is all of a file, one line of it, or what stands between the length and the tensors of a safetensors file.
    """
    size = int.from_bytes(raw[:8], "little")
    head, body, tail = b"", raw, b""
    if len(raw) > 8 and size <= len(raw) - 8 and raw[8:9] == b"{":
        body, tail = raw[8 : 8 + size], raw[8 + size :]
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return spoilt(raw, rng, seeds)
    changed = json.dumps(_exchange(value, rng, odd)).encode()
    if body is not raw:
        head = len(changed).to_bytes(8, "little")
    return head + changed + tail


def _exchange(value: Any, rng: random.Random, odd: Sequence[Any]) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        kind = rng.random()
        if kind < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.2:
            return {(str(rng.choice(odd)) if k == key else k): v for k, v in value.items()}
        return {**value, key: _exchange(value[key], rng, odd)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], _exchange(value[at], rng, odd), *value[at + 1 :]]
    if isinstance(value, str) and rng.random() < 0.2:  # JSON within JSON, as the metadata of safetensors has it
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            return rng.choice(odd)
        return json.dumps(_exchange(inner, rng, odd))
    return rng.choice(odd)


def drawn(name: str, count: int, seed: int) -> Iterator[bytes]:
    """Cases from hypothesis: a seed with a value of its own making in some place; such values alone; plain text."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    words = sorted({word for raw in SEEDS[name]() for word in _words(raw)})
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
    key = st.sampled_from(words) | st.text(max_size=8)
    value = st.recursive(
        leaf, lambda own: st.lists(own, max_size=4) | st.dictionaries(key, own, max_size=12), max_leaves=40
    )
    toml = st.dictionaries(st.sampled_from(words), leaf, max_size=6).map(
        lambda table: "\n".join(f"{k} = {json.dumps(v)}" for k, v in table.items())
    )
    seeds = SEEDS[name]()
    placed = st.builds(
        lambda raw, place, odd: reshaped(raw, random.Random(place), seeds, [odd]),
        st.sampled_from(seeds),
        st.integers(0, 2**32),
        value,
    )
    texts = (value.map(json.dumps) | toml | st.text()).map(lambda text: text.encode("utf-8", "surrogatepass"))
    kept: list[bytes] = []

    @seeded(seed)
    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(placed | placed | texts)
    def collect(raw: bytes) -> None:
        kept.append(raw)

    collect()
    yield from kept


def _words(raw: bytes) -> Iterator[str]:
    word = ""
    for character in raw.decode("utf-8", "ignore"):
        if character.isalnum() or character == "_":
            word += character
        elif word:
            yield word
            word = ""


def by_coverage(name: str, cases: int, seed: int) -> int:
    """Cases that atheris makes by what of the readers they reach. Its own process ends with it, as libFuzzer's does."""
    import atheris  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory(dir=shared_memory()) as folder, TARGETS[name](Path(folder)) as target:
        for module in (
            "override_gap.margins.items.item",
            "override_gap.margins.items.formats",
            "override_gap.margins.items.datasets",
            "override_gap.margins.strict_json",
            "override_gap.probes.plan",
            "tomllib._parser",
            "override_gap.probes.subject.file_checks",
        ):
            if module in sys.modules:
                for found in vars(sys.modules[module]).values():
                    if callable(found) and getattr(found, "__module__", "") == module and hasattr(found, "__code__"):
                        atheris.instrument_func(found)
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, raw in enumerate(SEEDS[name]()):
            (corpus / str(number)).write_bytes(raw)

        def one(raw: bytes) -> None:
            if outcome(name, target, raw) == "crash":
                raise SystemExit(f"{name}: a crash was kept in {CRASHERS}")

        atheris.Setup(
            [sys.argv[0], f"-atheris_runs={cases}", f"-seed={seed + 1}", "-print_final_stats=1", str(corpus)], one
        )
        atheris.Fuzz()
    return 0


def table(rows: list[tuple[str, int, int, int, float]], engine: str, seed: int) -> str:
    """What was run, in Markdown."""
    total, seconds = sum(sum(row[1:4]) for row in rows), sum(row[4] for row in rows)
    lines = [
        "# Fuzzing the readers",
        "",
        f"{total:,} cases in {seconds:.0f} s on one core ({platform.machine()}, Python {platform.python_version()}),",
        f"engine `{engine}`, seed {seed}. A case is a file; it ends in a value, or it is refused by the reader's own error.",
        f"Anything else is a crash, and so is a case that takes longer than {SECONDS} s.",
        "",
        "| target | cases | read | refused | crashes | cases a second |",
        "|---|---|---|---|---|---|",
    ]
    for name, read, refused, crashes, took in rows:
        count = read + refused + crashes
        lines.append(f"| {name} | {count:,} | {read:,} | {refused:,} | {crashes} | {count / max(took, 1e-9):,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
