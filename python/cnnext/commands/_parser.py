"""What the commands' parsers share."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

import cnnext as cx

USAGE_ERROR = 2


class UsageError(Exception):
    """Wrong arguments; the message is one line."""


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults shown, but not those of switches; lines of a description as they are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """One line for every usage error, without the usage text."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", _Formatter)
        super().__init__(*args, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        complain(message)
        raise SystemExit(USAGE_ERROR)


def complain(message: object) -> None:
    """One line on stderr."""
    print(f"cnnext: error: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def add_machine_options(parser: Any, device: bool = True) -> Any:
    """--device and --threads; returns their group."""
    group = parser.add_argument_group("machine")
    if device:
        group.add_argument(
            "--device",
            type=_device,
            default="cpu",
            metavar="{cpu,cuda,cuda:N}",
            help="where to compute; cuda needs a CUDA build and CuPy",
        )
    group.add_argument("--threads", type=int, default=argparse.SUPPRESS, help="CPU threads (all it may use)")
    return group


def set_threads(options: argparse.Namespace) -> None:
    """Apply --threads."""
    threads = getattr(options, "threads", None)
    if threads is not None:
        if not 1 <= threads <= 1024:
            raise UsageError(f"threads is {threads}; the rule is 1 <= threads <= 1024")
        cx.set_num_threads(threads)


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be cpu, cuda or cuda:N")
    return text
