"""cnnext train: a run from data to a tested checkpoint."""

from __future__ import annotations

import argparse
from typing import Any

from ..tables import aligned
from ._parser import UsageError, add_machine_options, set_threads

_DATASETS = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder", "segment-digits")
# The options that decide a run's numbers; a resumed run takes them from its folder.
_CONFIG_OPTIONS = (
    "model", "epochs", "batch_size", "lr", "optimizer", "schedule", "weight_decay", "label_smoothing",
    "rotate", "shift", "zoom", "flip", "crop", "size", "accumulate", "clip_norm", "seed", "channels_last",
    "amp",
)  # fmt: skip


def add(commands: Any) -> None:
    """The parser of `cnnext train`."""
    train = commands.add_parser(
        "train",
        help="train a CNN on images",
        description="Trains a CNN, leaves checkpoint, history and plots in a folder, and tests it once.\n"
        "Defaults are in brackets; those that depend on the data are at the end.",
        argument_default=argparse.SUPPRESS,  # what is left out has the data set's own default
    )
    data = train.add_argument_group("data")
    data.add_argument("dataset", choices=_DATASETS, help="what to learn")
    data.add_argument("directory", nargs="?", metavar="DIR", help="the same as --data-dir")
    data.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of the files of mnist, fashion-mnist, cifar10, cifar100 (digits ship with cnnext)",
    )
    data.add_argument(
        "--size",
        type=int,
        help="scale and crop a folder's images to SIZE x SIZE; 0: as they are",
    )
    model = train.add_argument_group("model and optimiser")
    model.add_argument(
        "--model",
        metavar="NAME",
        help="one of cnnext.models.names()",
    )
    model.add_argument(
        "--epochs",
        type=int,
        help="passes over the training images",
    )
    model.add_argument("--batch-size", type=int, help="images a batch")
    model.add_argument("--accumulate", type=int, help="batches a step (1)")
    model.add_argument("--lr", type=float, help="largest learning rate")
    model.add_argument("--optimizer", choices=("adamw", "sgd"), help="which (adamw)")
    model.add_argument(
        "--schedule",
        choices=("onecycle", "cosine"),
        help="of the learning rate (onecycle)",
    )
    model.add_argument("--weight-decay", type=float, help="decay of the weights (0.01)")
    model.add_argument("--clip-norm", type=float, help="largest norm of the gradients; 0: any (0)")
    model.add_argument("--label-smoothing", type=float, help="share given to the other classes (0)")
    model.add_argument("--seed", type=int, help="same seed, same bits (0)")
    changes = train.add_argument_group("augmentation of the training images")
    changes.add_argument(
        "--rotate",
        type=float,
        metavar="DEGREES",
        help="at most",
    )
    changes.add_argument(
        "--shift",
        type=float,
        metavar="PIXELS",
        help="at most",
    )
    changes.add_argument(
        "--zoom",
        type=float,
        help="a factor of 1 - ZOOM..1 + ZOOM",
    )
    changes.add_argument(
        "--crop",
        type=int,
        metavar="PIXELS",
        help="whole pixels moved, at most",
    )
    changes.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="mirror half of them",
    )
    machine = add_machine_options(train)
    machine.add_argument(
        "--amp",
        choices=("off", "bfloat16", "float16"),
        help="mixed precision: the dtype of convolutions and dense layers (off)",
    )
    machine.add_argument(
        "--channels-last", action=argparse.BooleanOptionalAction, help="NHWC strides for the images"
    )
    files = train.add_argument_group("files")
    place = files.add_mutually_exclusive_group()
    place.add_argument("--out", metavar="DIR", help="the run's folder (a new one under ./runs)")
    place.add_argument("--resume", metavar="DIR", help="go on with the interrupted run in DIR")
    files.add_argument(
        "--save-every",
        type=int,
        metavar="STEPS",
        help="save the run's state every so many steps too, not after epochs only",
    )
    files.add_argument(
        "--tensorboard",
        metavar="DIR",
        help="write TensorBoard's event files into DIR",
    )
    files.add_argument("--no-plots", action="store_true", default=False, help="draw nothing")
    files.add_argument("--quiet", action="store_true", default=False, help="print the last line only")
    train.set_defaults(run=run)
    own = train.format_help

    def format_help() -> str:
        train.epilog = _presets()  # made on demand: it imports the engine
        return own()

    train.format_help = format_help


def _presets() -> str:
    from ..train import TrainConfig

    names = ("model", "epochs", "batch_size", "lr", "rotate", "shift", "zoom", "crop", "flip", "size")
    presets = [TrainConfig.preset(dataset).to_dict() for dataset in _DATASETS]
    rows = [["data", *(name.replace("_", "-") for name in names)]]
    rows += [[preset["dataset"], *(f"{preset[name] or '-'}" for name in names)] for preset in presets]
    return "\n".join(["defaults by data:", *("  " + line for line in aligned(rows, set(rows[0][2:])))])


def run(options: argparse.Namespace) -> int:
    """Train, and print the closing line."""
    from .. import train
    from ..train.progress import choose_reporter
    from ..train.tasks import needs_folder

    set_threads(options)
    given = vars(options)
    folder = given.get("data_dir", given.get("directory"))
    if "directory" in given and "data_dir" in given:
        raise UsageError("the folder is given twice, as DIR and as --data-dir")
    if folder is None and needs_folder(options.dataset):
        flag = "" if options.dataset == "folder" else "--data-dir "
        raise UsageError(
            f"{options.dataset} needs the folder of its files: cnnext train {options.dataset} {flag}DIR"
        )
    if folder is not None and not needs_folder(options.dataset):
        raise UsageError(f"{options.dataset} ships with cnnext; leave out {folder}")
    if given.get("save_every", 1) < 1:
        raise UsageError(f"save_every is {options.save_every}; the rule is save_every >= 1")
    config = _config(given)
    callbacks = (train.TensorBoard(options.tensorboard),) if "tensorboard" in given else ()
    result = train.run(
        config,
        data_dir=folder,
        out=given.get("resume", given.get("out")),
        resume="resume" in given,
        plots=not options.no_plots,
        reporter=choose_reporter(options.quiet),
        device=options.device,
        save_every=given.get("save_every"),
        callbacks=callbacks,
    )
    if result.rank:
        return 0
    if result.test_mean_iou is not None:
        print(f"test mean IoU {result.test_mean_iou:.3f}", flush=True)
    else:
        print(f"test accuracy {100 * result.test_accuracy:.2f} %", flush=True)
    return 0


def _config(given: dict[str, Any]) -> Any:
    from .. import train

    changes = {name: given[name] for name in _CONFIG_OPTIONS if name in given}
    if "resume" not in given:
        try:
            return train.TrainConfig.preset(given["dataset"], **changes)
        except ValueError as error:
            raise UsageError(error) from None
    folder = given["resume"]
    if changes:
        raise UsageError(f"--resume takes its settings from {folder}; leave out {', '.join(changes)}")
    config = train.saved_config(folder)
    if config.dataset != given["dataset"]:
        raise UsageError(f"{folder} holds a run of {config.dataset}, not of {given['dataset']}")
    return config
