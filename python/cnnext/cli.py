"""The command `cnnext`: its commands, and one line for whatever goes wrong."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import cnnext as cx

from .commands import bench, predict, summary, train
from .commands._parser import USAGE_ERROR, Parser, UsageError, complain

__all__ = ["main"]

_FAILURE = 1


def _parser() -> Parser:
    parser = Parser(prog="cnnext", description="Fast CNN kernels, and training with them.")
    parser.add_argument("--version", action="version", version=f"cnnext {cx.__version__}")
    for name, what in (
        ("cmake-dir", "CMake's find_package(cnnext)"),
        ("include-dir", "#include <cnnext/cnnext.h>"),
        ("lib-dir", "libcnnext.so"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=f"print the folder for {what}")
    commands = parser.add_subparsers(dest="command", metavar="{train,predict,summary,bench,info}")
    for command in (train, predict, summary, bench):
        command.add(commands)
    info = commands.add_parser("info", help="version, instruction set, threads, CUDA")
    info.set_defaults(run=_info)
    return parser


def _info(options: argparse.Namespace) -> int:
    print(cx.info())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's own) and returns its exit status.

    0: done. 1: the run failed, with one line on stderr. 2: wrong usage, likewise. 130: interrupted; 143: by
    SIGTERM.
    """
    parser = _parser()
    try:
        status = _dispatch(parser, parser.parse_args(argv))
        sys.stdout.flush()
        return status
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except KeyboardInterrupt as interrupt:
        print(f"cnnext: interrupted{f'; {interrupt}' if str(interrupt) else ''}", file=sys.stderr, flush=True)
        status = 128 + getattr(interrupt, "signal", signal.SIGINT)
        if getattr(interrupt, "together", False):
            return status
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from failing again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = _FAILURE
    except UsageError as error:
        complain(error)
        status = USAGE_ERROR
    except Exception as error:
        if os.environ.get("CNNEXT_TRACEBACK"):
            raise
        complain(_one_line(error))
        status = _FAILURE
    if "cnnext.distributed" in sys.modules:  # those that train with this one would wait for it
        sys.modules["cnnext.distributed"].end_others(status)
    return status


def _one_line(error: Exception) -> str:
    from .data import DataError
    from .train import RunError

    if isinstance(error, (DataError, RunError, ImportError)):  # an extra that is missing says which
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; a smaller --batch-size may help"
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    return f"{type(error).__name__}: {error} (CNNEXT_TRACEBACK=1 shows where)"


def _dispatch(parser: Parser, options: argparse.Namespace) -> int:
    package = Path(cx._C.__file__).parent
    asked = {
        "cmake_dir": package / "cmake",
        "include_dir": package / "include",
        "lib_dir": package,
    }
    folders = [path for name, path in asked.items() if getattr(options, name)]
    for path in folders:
        print(path)
    if options.command is not None:
        return options.run(options)
    if not folders:
        parser.error("a command is missing: cnnext train digits, cnnext info (cnnext --help lists all)")
    return 0
