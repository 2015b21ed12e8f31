"""Six architectures, one text: `python -m mamba2_lab.pretrained.architectures rates|training|parity|decoding`.

All are as large as `medium`, within two parts in a hundred, and differ in nothing but their layers: the same text,
tokenizer, windows and optimiser, and a learning rate that is looked for in the same way.

rates      short runs at each of RATES, for the rate of the long ones: the one whose training loss ends lowest. Nobody
           chooses by the held-out files.
training   long runs at that rate, from each of the seeds; measured on the held-out files.
parity     tiny models of the same mixers, on the CPU (`parity.py`).
decoding   the time of a token on the CPU, and the size of the state.

Notebook 08 reads the record, architectures.jsonl: a line for each run, written once it is finished. The same command
goes on with the runs that are missing, so several may be started side by side, each for some names, rates or seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import statistics
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from mamba2_lab.benchmark import clock
from mamba2_lab.data import Document, PackedTokens, pack, standard_library
from mamba2_lab.health.choice import choose
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.model import Mamba2Cache
from mamba2_lab.pretrained import parity
from mamba2_lab.pretrained.completions import COUNT, completions_of, headers, share_that_parses
from mamba2_lab.pretrained.copying import shares_copied
from mamba2_lab.pretrained.provenance import machine, thin, today
from mamba2_lab.pretrained.recipes import MEDIUM, held_out_facts, read_text, size_of
from mamba2_lab.text import Tokenizer
from mamba2_lab.training import Record, TrainingConfig, bits_per_byte, fit, is_main_process
from mamba2_lab.weights import BOX, load_tokenizer

RECORD = BOX / "architectures.jsonl"

_MAMBA2 = {"d_state": 128, "headdim": 64}
_ATTENTION = {"head_dim": 64, "qkv_proj_bias": False, "out_proj_bias": False}
_MIMO = {"is_mimo": True, "mimo_rank": 4, "chunk_size": 16}
# Without MLPs, as medium is, but for Llama, which is nothing without.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "mamba1": {"d_model": 328, "n_layer": 9, "mixers": "mamba1"},
    "mamba2": {"d_model": 320, "n_layer": 9, "mixers": "mamba2", "mamba2": _MAMBA2},
    "mamba3": {"d_model": 320, "n_layer": 9, "mixers": "mamba3", "mamba3": _MAMBA2},
    "mamba3-mimo": {"d_model": 288, "n_layer": 8, "mixers": "mamba3", "mamba3": {**_MAMBA2, **_MIMO}},
    "llama": {
        "d_model": 328,
        "n_layer": 6,
        "mixers": "attention",
        "attention": {"num_heads": 5, "rotary_emb_dim": 64, **_ATTENTION},
        "d_intermediate": 640,
    },
    "hybrid": {  # its attention as in the published mamba2attn-2.7b
        "d_model": 320,
        "n_layer": 9,
        "mixers": ["mamba2"] * 4 + ["attention"] + ["mamba2"] * 4,
        "mamba2": _MAMBA2,
        "attention": {"num_heads": 8, "rotary_emb_dim": 32, "d_conv": 4, **_ATTENTION},
    },
}
STEPS, SHORT_STEPS = 1000, 300
RATES = (2e-3, 4e-3, 8e-3, 1.6e-2)
SEEDS = (0, 1, 2)
TRAINING = dataclasses.replace(MEDIUM.training, steps=STEPS, warmup_steps=100)
SHORT = dataclasses.replace(TRAINING, steps=SHORT_STEPS, warmup_steps=50)
PARTS = {"mamba3-mimo": 2}  # of a batch, for memory
LAST = 30  # steps of a short run, over which its loss is averaged
DISTANCES = (16, 64, 256)  # tokens between a token and its answer, for `copying`

_TIME = {"dt_min": 0.3, "dt_max": 1.5}  # a step moves time far enough that one bit can count
_TURNS = {"d_state": 16, "headdim": 32, **_TIME}
TINY: dict[str, dict[str, Any]] = {  # for parity: two layers each
    "mamba1": {"mixers": "mamba1", "mamba1": _TIME},
    "mamba2": {"mixers": "mamba2", "mamba2": _TURNS},
    "mamba3": {"mixers": "mamba3", "mamba3": {**_TURNS, "rope_fraction": 1.0}},
    "mamba3-mimo": {"mixers": "mamba3", "mamba3": {**_TURNS, "rope_fraction": 1.0, **_MIMO}},
    "llama": {
        "mixers": "attention",
        "attention": {"num_heads": 2, "head_dim": 16, "rotary_emb_dim": 16},
        "d_intermediate": 128,
    },
    "hybrid": {
        "mixers": ["mamba2", "attention"],
        "mamba2": _TURNS,
        "attention": {"num_heads": 2, "head_dim": 16, "rotary_emb_dim": 8, "d_conv": 4},
    },
}
PARITY_RATES = (1e-3, 3e-3, 1e-2)

READ = 1024  # tokens before those that are timed: as many as the models were trained on
TIMED = 16  # tokens at a time


def main(arguments: list[str] | None = None) -> None:
    """Make the runs that the record does not hold, and add a line for each."""
    options = _parse(arguments)
    names = options.names or list(ARCHITECTURES)
    runs = {"rates": rates, "training": training, "parity": parities, "decoding": decoding}[options.what]
    for row in runs(names, options):
        if is_main_process():
            row = {"what": options.what, **row, "date": today()}
            note(options.file, row)
            print(_told(row), flush=True)


# The record


def read(path: Path = RECORD, **wanted: Any) -> list[dict[str, Any]]:
    """The lines of a record that have all these values; by default of the one in the box."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def note(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line, at once, so that commands side by side do not lose each other's."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def best_rate(path: Path, name: str) -> float:
    """The rate at which the short runs of an architecture ended with the lowest loss on what they learned from.

    Raises:
        ValueError: if the record does not hold a short run for each of RATES, and for half and twice the best.
    """
    best, missing = _best_and_missing(path, name)
    if best is None or missing:
        raise ValueError(f"{path} must hold short runs of {name} at {missing}; make them with `rates {name}`")
    return best


def _best_and_missing(path: Path, name: str) -> tuple[float | None, list[float]]:
    """The best rate so far, and those that are still to be tried: RATES, and then on until the best lies inside."""
    rows = {row["learning_rate"]: row for row in read(path, what="rates", architecture=name)}
    ended = [rate for rate, row in rows.items() if row["ended"] is None]
    best = min(ended, key=lambda rate: float(rows[rate]["loss"]), default=None)
    beside = set() if best is None or {*RATES} - {*rows} else {best / 2, best * 2}
    return best, sorted({*RATES, *beside} - {*rows})


# Learning from text


def rates(names: list[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The short runs that are missing; where the best rate lies at an end, those beyond it too."""
    given = None
    for name in names:
        while missing := _best_and_missing(options.file, name)[1]:
            wanted = [rate for rate in options.rates or missing if rate in missing]
            if not wanted:
                break
            given = given or material(options.tokens)
            row, _ = train(name, dataclasses.replace(SHORT, learning_rate=wanted[0]), given, options)
            yield row


def training(names: list[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The long runs that are missing, each with what came of it."""
    wanted = [(name, seed) for name in names for seed in options.seeds if not _whole(options.file, name, seed)]
    if not wanted:
        return
    given = material(options.tokens)
    for name, seed in wanted:
        config = dataclasses.replace(TRAINING, learning_rate=best_rate(options.file, name), seed=seed)
        row, model = train(name, config, given, options)
        yield row | (measured(model, given) if row["ended"] is None and is_main_process() else {})


def _whole(path: Path, name: str, seed: int) -> bool:
    """Whether the record holds this long run."""
    return bool(read(path, what="training", architecture=name, seed=seed, steps=TRAINING.steps))


@dataclasses.dataclass(frozen=True)
class Material:
    """What all architectures learn from, and what they are measured on."""

    tokens: PackedTokens
    tokenizer: Tokenizer
    held_out: tuple[Document, ...]
    facts: dict[str, Any]


def material(path: Path | None = None) -> Material:
    """Text as medium's, in its tokens: those in the file, or of the packages of this machine, into the file."""
    tokenizer, held_out = load_tokenizer("medium"), standard_library().held_out
    kept: dict[str, Any]
    if path is None or not path.exists():
        text = read_text(MEDIUM.packages_bytes)
        tokens = pack(text.weighted(MEDIUM.library_weight), tokenizer)
        facts = {"library": size_of(text.library), "packages": size_of(text.packages), "tokens": len(tokens)}
        kept = {"ids": tokens.ids, "document_ids": tokens.document_ids, "facts": {**facts, "sha256": tokens.digest()}}
        if path is not None:
            torch.save(kept, path)
    else:
        kept = torch.load(path, weights_only=True)
    facts = {**kept["facts"], "library_weight": MEDIUM.library_weight, "held_out": held_out_facts(held_out)}
    return Material(PackedTokens(kept["ids"], kept["document_ids"]), tokenizer, held_out, facts)


def train(
    name: str, config: TrainingConfig, given: Material, options: argparse.Namespace
) -> tuple[dict[str, Any], MambaLM]:
    """A training: its row of the record, and the model.

    Raises:
        KeyboardInterrupt: if Ctrl-C ended it; with --checkpoints the next command goes on from there.
    """
    device = choose(options.device).device
    config = dataclasses.replace(config, accumulation=PARTS.get(name, 1))
    model = build(name, given.tokenizer.vocab_size, config.seed, device)
    own = f"{name}-{config.steps}-{config.learning_rate:g}-{config.seed}"
    folder = options.checkpoints and options.checkpoints / own
    curve: list[Record] = []
    ended = None
    try:
        resume = folder is not None
        curve = fit(
            model, given.tokens, config, folder=folder, resume=resume, on_step=curve.append, progress=options.progress
        )
    except FloatingPointError as error:
        ended = str(error)
    if ended is None and len(curve) < config.steps:
        raise KeyboardInterrupt
    row = {
        "architecture": name,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "steps": config.steps,
        "tokens": config.steps * config.batch_size * config.length,
        "parameters": model.num_parameters(),
        "ended": ended,
        **_cost(curve, device),
        "training": dataclasses.asdict(config),
        "text": given.facts,
        "machine": machine(device),
    }
    return row, model


def build(name: str, vocab_size: int, seed: int = 0, device: torch.device | str = "cpu") -> MambaLM:
    """The architecture of that name, with random weights."""
    return MambaLM(**ARCHITECTURES[name], vocab_size=vocab_size, seed=seed, device=device)


def _cost(curve: list[Record], device: torch.device) -> dict[str, Any]:
    """How the loss fell, and what that took."""
    if len(curve) < 2:
        return {}
    seconds, points = [record.seconds for record in curve], thin(curve)
    return {
        "loss": round(statistics.mean(record.loss for record in curve[-LAST:]), 4),
        "seconds": round(seconds[-1], 1),
        "milliseconds_per_step": round(1000 * statistics.median(b - a for a, b in pairwise(seconds)), 1),
        "bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "curve": {key: [point[key] for point in points] for key in ("step", "loss")},
    }


def measured(model: MambaLM, given: Material) -> dict[str, Any]:
    """What a trained model can do. Attention looks as far back as in training; positions beyond are new to it, so what
    twice as far does to it is measured too."""
    prompts = headers(given.held_out, COUNT)
    windows = {"bits_per_byte": TRAINING.length}
    if any(state.grows for state in model.new_cache().layers):
        windows["bits_per_byte_beyond"] = 2 * TRAINING.length
    return {
        **{
            key: round(bits_per_byte(model, given.held_out, given.tokenizer, window=window), 4)
            for key, window in windows.items()
        },
        "parses": share_that_parses(prompts, completions_of(model, given.tokenizer, prompts)),
        "copied": {
            str(distance): shares_copied(model, given.held_out, given.tokenizer, distance) for distance in DISTANCES
        },
    }


# What needs no text


def parities(names: list[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Tiny models that learn parity, at each of PARITY_RATES, on one thread of the CPU."""
    torch.set_num_threads(1)
    for name, rate, seed in itertools.product(names, options.rates or PARITY_RATES, options.seeds):
        if not read(options.file, what="parity", architecture=name, learning_rate=rate, seed=seed):
            model = MambaLM(**TINY[name], **parity.SHAPE, seed=seed)
            parity.learn(model, rate, seed)
            yield {
                "architecture": name,
                "learning_rate": rate,
                "seed": seed,
                "steps": parity.STEPS,
                "parameters": model.num_parameters(),
                "right": round(parity.share_right(model), 4),
                "machine": machine(torch.device("cpu")),
            }


def decoding(names: list[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The time of a token and the size of the state, behind READ tokens, on the CPU; weights may be any."""
    caches: dict[str, Mamba2Cache] = {}
    contestants: dict[str, clock.Work] = {}
    for name in names:
        model = build(name, MEDIUM.vocab_size or 0)
        _, caches[name] = model.prefill(torch.arange(READ)[None] % model.config.vocab_size)
        contestants[name] = functools.partial(_write, model, caches[name])
    for name, timing in clock.measure(contestants, "cpu", options.seconds).items():
        seconds = timing.shared_by(TIMED)
        yield {
            "architecture": name,
            "tokens_per_second": round(1 / seconds.median, 1),
            "quartiles": [round(1 / seconds.high, 1), round(1 / seconds.low, 1)],
            "bytes": caches[name].nbytes,
            "read": READ,
            "machine": machine(torch.device("cpu")),
        }


def _write(model: MambaLM, cache: Mamba2Cache) -> None:
    token = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        for _ in range(TIMED):
            logits, cache = model.step(token, cache)
            token = logits.argmax(dim=-1)


# The command


def _told(row: Mapping[str, Any]) -> str:
    shown = {key: row[key] for key in ("learning_rate", "seed", *_SHOWN) if row.get(key) is not None}
    return f"{row['architecture']}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())


_SHOWN = (
    *("ended", "loss", "bits_per_byte", "parses", "copied", "milliseconds_per_step", "seconds"),
    *("right", "tokens_per_second", "bytes"),
)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mamba2_lab.pretrained.architectures", description=main.__doc__)
    parser.add_argument("what", choices=("rates", "training", "parity", "decoding"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ARCHITECTURES)}; by default all")
    parser.add_argument("--rates", nargs="+", type=float, help="these learning rates alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="by default 0 1 2")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to time decoding")
    parser.add_argument("--progress", action="store_true", help="show a bar for each training")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the fastest that passes the self-test")
    parser.add_argument("--tokens", type=Path, help="a file for the tokens of the text, so that they are made once")
    parser.add_argument("--checkpoints", type=Path, help="where to keep checkpoints, and go on from the newest")
    parser.add_argument("--file", type=Path, default=RECORD, help="the record; by default that in the box")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in ARCHITECTURES]
    if unknown:
        parser.error(f"NAME must be one of {', '.join(ARCHITECTURES)}; got {unknown[0]}")
    return options


if __name__ == "__main__":
    main()
