"""The command line: layers and contestants from arguments."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from bench import step_peers
from bench.contestants import Spec
from bench.dtypes import DTYPES
from bench.libraries import DEVICE_LIBRARIES, LIBRARIES, PEERS, PREPACKING, missing
from bench.shapes import Layer, load, stored

PASSES = ("fwd", "bwd_data", "bwd_weights")
LAYOUTS = ("nchw", "nhwc")
ALGORITHMS = ("auto", "direct", "packed")
MALLOCS = ("kept", "default")


class UsageError(ValueError):
    """An argument that cannot be meant."""


def choices(text: str, name: str, allowed: tuple[str, ...], alone: str = "") -> list[str]:
    """A comma-separated list of distinct words out of `allowed`; `alone` names what may stand by itself."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in allowed:
            others = f", or {alone}" if alone else ""
            raise UsageError(f"--{name} has {word!r}; it must be of {', '.join(allowed)}{others}")
    return list(dict.fromkeys(words))


def count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m bench", description="Measure convolution and pool layers, beside other libraries."
    )
    p.add_argument(
        "--shapes", default="kernels_md", help=f"files or stored names, with commas: {', '.join(stored())}"
    )
    p.add_argument(
        "--steps",
        nargs="?",
        const="all",
        help="whole steps of networks instead of layers: all, or words of their names, with commas",
    )
    p.add_argument(
        "--filter", default="", help="only layers whose name contains one of these words, with commas"
    )
    p.add_argument("--passes", default=",".join(PASSES), help="fwd,bwd_data,bwd_weights")
    p.add_argument("--layouts", default=",".join(LAYOUTS), help="nchw,nhwc")
    p.add_argument(
        "--algorithms", default="auto", help="cnnext's: auto,direct,packed (packed weights, forward only)"
    )
    p.add_argument(
        "--isa",
        default="",
        help="cnnext's instruction sets, with commas: scalar,avx2,avx512; default: its own choice",
    )
    p.add_argument(
        "--peers",
        default="torch",
        help=f"{','.join(PEERS)}; all; or none. What is not installed is left out. "
        f"With --steps: {','.join(step_peers.PEERS)}",
    )
    p.add_argument(
        "--malloc", default="kept", help="torch's malloc: kept (never gives pages back), default, or both"
    )
    p.add_argument(
        "--batch", type=count, default=None, help="the batch of every layer; default: the shape file's"
    )
    p.add_argument("--device", default="cpu", help="cpu, cuda, or cuda:N")
    p.add_argument(
        "--dtype",
        default="float32",
        help=f"on a CUDA device: {','.join(DTYPES)}; tf32: float32 whose convolutions may use TF32",
    )
    p.add_argument("--threads", type=count, default=usable_cpus())
    p.add_argument("--blocks", type=count, default=3, help="how often the contestants take turns")
    p.add_argument("--repeats", type=count, default=4, help="timed calls in a block")
    p.add_argument(
        "--rest-ms", type=float, default=15.0, help="rest before a block, while other threads still spin"
    )
    p.add_argument(
        "--keep-going",
        action="store_true",
        help="note a contestant's wrong result or error and go on without it; the status is 1 at the end",
    )
    p.add_argument(
        "--limit-s", type=float, default=math.inf, help="begin no layer or step after that many seconds"
    )
    p.add_argument("--no-check", action="store_true", help="do not validate results first")
    p.add_argument("--no-peak", action="store_true", help="do not measure the machine's limits")
    p.add_argument("--no-plots", action="store_true")
    p.add_argument(
        "--out", type=Path, default=None, help="folder for bench.json and plots; default: runs/bench-DATE"
    )
    return p


def peers_from(text: str, packages: dict[str, tuple[str, ...]]) -> list[str]:
    """The peers that are asked for and installed; one line on stderr for each that is not.

    packages: those that each peer needs.
    """
    if text == "none":
        return []
    known = tuple(packages)
    asked = list(known) if text == "all" else choices(text, "peers", known, "all or none")
    if not asked:
        raise UsageError(f"--peers is empty; it must be of {', '.join(known)}, or all or none")
    found = []
    for name in asked:
        if absent := missing(packages[name]):
            needs = " ".join(absent)
            print(f"{name} is left out: {needs} is not installed (pip install {needs})", file=sys.stderr)
        else:
            found.append(name)
    return found


def specs_from(args: argparse.Namespace) -> list[Spec]:
    """The contestants that the arguments ask for, cnnext's first."""
    isas = [word.strip() for word in args.isa.split(",") if word.strip()] or [""]
    algorithms = choices(args.algorithms, "algorithms", ALGORITHMS)
    mallocs = choices(args.malloc, "malloc", MALLOCS)
    if not algorithms:
        raise UsageError(f"--algorithms is empty; it must be of {', '.join(ALGORITHMS)}")
    if not mallocs:
        raise UsageError(f"--malloc is empty; it must be of {', '.join(MALLOCS)}")
    steps = args.steps is not None
    device = device_from(args.device)
    if device != "cpu":
        return device_specs(args, isas, algorithms, device)
    if dtypes_from(args.dtype) != ["float32"]:
        raise UsageError(f"--dtype is {args.dtype!r}; without --device cuda it must be float32")
    peers = peers_from(args.peers, step_peers.PEERS if steps else {p: LIBRARIES[p].packages for p in PEERS})
    if not steps and any(peer in PREPACKING for peer in peers) and "packed" not in algorithms:
        algorithms.append("packed")
    specs = []
    for isa in dict.fromkeys(isas):
        for algorithm in algorithms:
            label = "cnnext" + (f" {isa}" if isa else "") + (f" {algorithm}" if algorithm != "auto" else "")
            specs.append(Spec(label, "cnnext", isa=isa, algorithm=algorithm))
    for peer in peers:
        for malloc in mallocs if step_peers.is_torch(peer) else ("default",):
            specs.append(Spec(peer + (" kept" if malloc == "kept" else ""), peer, malloc=malloc))
    return specs


def device_from(text: str) -> str:
    """ "cpu" or "cuda:N"."""
    kind, colon, number = text.partition(":")
    if text != "cpu" and (kind != "cuda" or bool(colon) is not number.isdecimal()):
        raise UsageError(f"--device is {text!r}; it must be cpu, cuda or cuda:N")
    return text if colon or text == "cpu" else f"{text}:0"


def dtypes_from(text: str) -> list[str]:
    found = choices(text, "dtype", tuple(DTYPES))
    if not found:
        raise UsageError(f"--dtype is empty; it must be of {', '.join(DTYPES)}")
    return found


def device_specs(args: argparse.Namespace, isas: list[str], algorithms: list[str], device: str) -> list[Spec]:
    """On a CUDA device, where instruction sets and malloc have no part."""
    if isas != [""]:
        raise UsageError(f"--isa is {args.isa!r}; on a CUDA device it must be left out")
    if "packed" in algorithms:
        raise UsageError("--algorithms has 'packed'; on a CUDA device it must be of auto, direct")
    steps = args.steps is not None
    if steps and dtypes_from(args.dtype) not in (["float32"], ["tf32"]):
        raise UsageError(f"--dtype is {args.dtype!r}; with --steps it must be float32 or tf32")
    known = {name: runs.packages for name, runs in DEVICE_LIBRARIES.items() if name != "cnnext"}
    if steps:
        known = {peer: step_peers.PEERS[peer] for peer in ("torch", "torch_compile")}
    labels = {"auto": "cnnext", "direct": "cnnext direct"}
    specs = [Spec(labels[a], "cnnext", algorithm=a, device=device) for a in algorithms]
    return specs + [Spec(peer, peer, device=device) for peer in peers_from(args.peers, known)]


def layers_from(args: argparse.Namespace) -> list[Layer]:
    names = [name.strip() for name in args.shapes.split(",") if name.strip()]
    words = [word.strip() for word in args.filter.split(",") if word.strip()]
    layers = [layer.with_batch(args.batch) for name in names for layer in load(name)]
    chosen = [layer for layer in layers if not words or any(word in layer.name for word in words)]
    if not chosen:
        raise UsageError(f"no layer is left of --shapes {args.shapes!r} with --filter {args.filter!r}")
    return chosen
