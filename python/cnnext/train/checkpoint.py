"""Checkpoints: all that a training run goes on from, in one safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .. import random
from ..nn import Module
from ..serialization import load, save

__all__ = ["load_checkpoint", "save_checkpoint"]

_SHOWN = 3  # differences that an error spells out
_PARTS = ("model", "optimizer", "scheduler", "scaler", "loader")


def _given(*parts: Any) -> dict[str, Any]:
    return {name: part for name, part in zip(_PARTS, parts, strict=True) if part is not None}


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Module,
    optimizer: Any = None,
    scheduler: Any = None,
    scaler: Any = None,
    loader: Any = None,
    *,
    extra: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the state of everything that is given, and of cnnext's random numbers, to one safetensors file.

    Args:
        path: written aside, then renamed: an older file stays until the new one is whole.
        model, optimizer, scheduler, scaler, loader: each by its state_dict(); None leaves it out.
        extra: more to keep: nested dicts and lists of Tensors, arrays, numbers and strings.
        metadata: what JSON can hold, for `cnnext.serialization.load_metadata`.

    Raises:
        OSError: the file cannot be written.
        TypeError: a state holds something that safetensors does not.
    """
    parts = _given(model, optimizer, scheduler, scaler, loader)
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    save({**state, "random": random.get_state(), "extra": dict(extra or {})}, path, metadata)


def load_checkpoint(
    path: str | os.PathLike[str],
    model: Module | None = None,
    optimizer: Any = None,
    scheduler: Any = None,
    scaler: Any = None,
    loader: Any = None,
    *,
    generator: bool = True,
) -> dict[str, Any]:
    """Take up what save_checkpoint wrote, and return its `extra`. Nothing is unpickled.

    Args:
        path: the file.
        model, optimizer, scheduler, scaler, loader: what is to go on from the file; None leaves it be.
        generator: take up cnnext's random numbers, too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds no such part, or is of another network, whose names and shapes
            the error tells. The model is then as it was.
    """
    state = load(path)
    missing = {"model", "random", "extra"} - set(state)
    parts = _given(model, optimizer, scheduler, scaler, loader)
    if missing or not parts.keys() <= state.keys():
        absent = ", ".join(sorted(missing | (parts.keys() - state.keys())))
        raise ValueError(f"{os.fspath(path)} is not such a checkpoint: it holds no {absent}")
    if model is not None:
        check_fits(model, state["model"], path)
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        if generator:
            random.set_state(state["random"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)} does not fit: {error}") from error
    return state["extra"]


def check_fits(model: Module, state: Any, path: str | os.PathLike[str]) -> None:
    """ValueError that names what differs where `state`, from the file `path`, is not this network's."""
    if not isinstance(state, Mapping) or not all(hasattr(value, "shape") for value in state.values()):
        raise ValueError(f"{os.fspath(path)} holds no weights")
    own = {name: list(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: list(value.shape) for name, value in state.items()}
    found = [
        f"{name} is {theirs[name]} there and {shape} here"
        for name, shape in own.items()
        if name in theirs and theirs[name] != shape
    ]
    found += [f"{name} {shape} is not there" for name, shape in own.items() if name not in theirs]
    found += [f"{name} {shape} is not here" for name, shape in theirs.items() if name not in own]
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(
            f"{os.fspath(path)} is of another network than {type(model).__name__}: "
            f"{'; '.join(found[:_SHOWN])}{more}"
        )
