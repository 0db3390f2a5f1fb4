"""cnnext summary: what a network's layers are and cost."""

from __future__ import annotations

import argparse
from typing import Any

import cnnext as cx

from ._parser import UsageError


def add(commands: Any) -> None:
    """The parser of `cnnext summary`."""
    summary = commands.add_parser("summary", help="a network's layers, shapes and costs")
    summary.add_argument("model", metavar="MODEL", help="one of cnnext.models.names()")
    summary.add_argument(
        "--input", type=_shape, default="3,224,224", metavar="C,H,W", help="an image's shape"
    )
    summary.add_argument("--batch", type=int, default=1, help="images")
    summary.add_argument(
        "--classes", type=int, default=argparse.SUPPRESS, help="of the network (its own default)"
    )
    summary.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    if options.batch < 1:
        raise UsageError(f"batch is {options.batch}; the rule is batch >= 1")
    classes = {"classes": options.classes} if "classes" in options else {}
    try:
        model = cx.models.create(options.model, **classes)
        print(cx.summary(model, (options.batch, *options.input)))
    except ValueError as error:
        raise UsageError(error) from None
    return 0


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if len(sizes) != 3 or not all(size.isdecimal() and 0 < int(size) <= 1_000_000 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} must be C,H,W: three positive numbers, as in 3,224,224")
    return tuple(map(int, sizes))
