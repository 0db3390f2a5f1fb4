"""The command `cnnext`: train, info, and where an outsider's build finds headers and library."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import cnnext as cx

if TYPE_CHECKING:
    from .train import TrainConfig

__all__ = ["main"]

_USAGE_ERROR, _FAILURE, _INTERRUPTED = 2, 1, 130
# The options that decide a run's numbers; a resumed run takes them from its folder.
_CONFIG_OPTIONS = ("epochs", "batch_size", "lr", "optimizer", "schedule", "seed", "channels_last", "amp")


class _Parser(argparse.ArgumentParser):
    """One line for every usage error, without the usage text."""

    def error(self, message: str) -> NoReturn:
        _complain(message)
        raise SystemExit(_USAGE_ERROR)


def _complain(message: object) -> None:
    line = " ".join(str(message).split())
    print(f"cnnext: error: {line}", file=sys.stderr, flush=True)


def _parser() -> _Parser:
    parser = _Parser(
        prog="cnnext", description="Fast CNN kernels, and training with them.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"cnnext {cx.__version__}")
    for name, what in (
        ("cmake-dir", "CMake's find_package(cnnext)"),
        ("include-dir", "#include <cnnext/cnnext.h>"),
        ("lib-dir", "libcnnext.so"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=f"print the folder for {what}")
    commands = parser.add_subparsers(dest="command", metavar="{train,info}")
    _add_train(commands)
    commands.add_parser("info", help="version, instruction set, threads, CUDA", allow_abbrev=False)
    return parser


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be cpu, cuda or cuda:N")
    return text


def _add_train(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser(
        "train",
        help="train a small CNN on digits or mnist",
        description="Trains a small CNN, leaves checkpoint, history and plots in a folder, tests it once.",
        allow_abbrev=False,
    )
    train.add_argument("dataset", choices=("digits", "mnist"), metavar="{digits,mnist}")
    train.add_argument("--data-dir", metavar="DIR", help="folder of mnist's IDX files, plain or .gz")
    train.add_argument("--epochs", type=int, help="passes over the training images (digits 40, mnist 12)")
    train.add_argument("--batch-size", type=int, help="images a step (digits 32, mnist 64)")
    train.add_argument("--lr", type=float, help="largest learning rate (digits 0.003, mnist 0.002)")
    train.add_argument("--optimizer", choices=("adamw", "sgd"), help="default adamw")
    train.add_argument("--schedule", choices=("onecycle", "cosine"), help="default onecycle")
    train.add_argument("--seed", type=int, help="same seed, same bits (0)")
    train.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="NHWC strides for the images",
    )
    train.add_argument(
        "--device",
        type=_device,
        default="cpu",
        metavar="{cpu,cuda,cuda:N}",
        help="where to compute (cpu); cuda needs a CUDA build and CuPy",
    )
    train.add_argument(
        "--amp",
        choices=("off", "bfloat16", "float16"),
        help="mixed precision: the dtype of convolutions and dense layers (off)",
    )
    train.add_argument("--threads", type=int, help="CPU threads (default: what this process may use)")
    place = train.add_mutually_exclusive_group()
    place.add_argument("--out", metavar="DIR", help="the run's folder (default: a new one under ./runs)")
    place.add_argument("--resume", metavar="DIR", help="go on with the interrupted run in DIR")
    train.add_argument("--no-plots", action="store_true", help="draw nothing")
    train.add_argument("--quiet", action="store_true", help="print the last line only")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's own) and returns its exit status.

    0: done. 1: the run failed, with one line on stderr. 2: wrong usage, likewise. 130: interrupted.
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
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from failing again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILURE
    except Exception as error:
        if os.environ.get("CNNEXT_TRACEBACK"):
            raise
        _complain(_one_line(error))
        return _FAILURE


def _one_line(error: Exception) -> str:
    from .data import DataError
    from .train import RunError

    if isinstance(error, (DataError, RunError)):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; a smaller --batch-size may help"
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    return f"{type(error).__name__}: {error} (CNNEXT_TRACEBACK=1 shows where)"


def _dispatch(parser: _Parser, options: argparse.Namespace) -> int:
    package = Path(cx._C.__file__).parent
    asked = {
        "cmake_dir": package / "cmake",
        "include_dir": package / "include",
        "lib_dir": package,
    }
    folders = [path for name, path in asked.items() if getattr(options, name)]
    for path in folders:
        print(path)
    if options.command == "train":
        return _train(parser, options)
    if options.command == "info":
        print(cx.info())
    elif not folders:
        parser.error("a command is missing: cnnext train digits, cnnext info (cnnext --help lists all)")
    return 0


def _train(parser: _Parser, options: argparse.Namespace) -> int:
    from . import train
    from .train.progress import choose_reporter

    if options.threads is not None:
        if not 1 <= options.threads <= 1024:
            parser.error(f"threads is {options.threads}; the rule is 1 <= threads <= 1024")
        cx.set_num_threads(options.threads)
    if options.dataset == "mnist" and options.data_dir is None:
        parser.error("mnist needs the folder of its files: cnnext train mnist --data-dir DIR")
    result = train.run(
        _config(parser, options),
        data_dir=options.data_dir,
        out=options.resume or options.out,
        resume=options.resume is not None,
        plots=not options.no_plots,
        reporter=choose_reporter(options.quiet),
        device=options.device,
    )
    print(f"test accuracy {100 * result.test_accuracy:.2f} %", flush=True)
    return 0


def _config(parser: _Parser, options: argparse.Namespace) -> TrainConfig:
    from . import train

    given = {name: getattr(options, name) for name in _CONFIG_OPTIONS if getattr(options, name) is not None}
    if options.resume is None:
        try:
            return train.TrainConfig.preset(options.dataset, **given)
        except ValueError as error:
            parser.error(str(error))
    if given:
        parser.error(f"--resume takes its settings from {options.resume}; leave out {', '.join(given)}")
    config = train.saved_config(options.resume)
    if config.dataset != options.dataset:
        parser.error(f"{options.resume} holds a run of {config.dataset}, not of {options.dataset}")
    return config
