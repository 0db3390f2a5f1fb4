"""Running a model to look inside: one image, in evaluation mode; the model stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from ..grad_mode import no_grad
from ..nn import Module
from ..tensor import Tensor
from .figures import to_array

__all__ = ["evaluating", "image_batch", "layer_named", "outputs_of"]


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """The model in evaluation mode, and in its own modes afterwards."""
    if not isinstance(model, Module):
        raise TypeError(f"model is {type(model).__name__}; the rule is a cnnext.nn.Module")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def image_batch(model: Module, image: Any) -> Tensor:
    """image (C, H, W) or (1, C, H, W) as the model's input, of its dtype and on its device."""
    array = to_array("image", image, "(C, H, W)", "(1, C, H, W)")
    if array.ndim == 4 and len(array) != 1:
        raise ValueError(f"image has shape {array.shape}; the rule is one image, (C, H, W) or (1, C, H, W)")
    parameter = next(model.parameters(), None)
    batch = Tensor(array.reshape(1, *array.shape[-3:]).astype(np.float32))
    return batch if parameter is None else batch.to(device=parameter.device, dtype=parameter.dtype)


def layer_named(model: Module, layer: str) -> Module:
    """The model's layer of that dotted name; ValueError with the names that there are."""
    named = dict(model.named_modules())
    if layer not in named or not layer:
        names = [name for name, module in named.items() if name and not any(module.children())]
        raise ValueError(f"layer is {layer!r}; the rule is the name of a layer: {', '.join(names)}")
    return named[layer]


def outputs_of(model: Module, image: Any, layers: list[str] | None = None) -> list[tuple[str, np.ndarray]]:
    """(name, output) of every call of the named layers, in the order of the calls; None: of all leaves."""
    with evaluating(model), ExitStack() as hooks, no_grad():
        if layers is None:
            layers = [name for name, module in model.named_modules() if name and not any(module.children())]
        found: list[tuple[str, np.ndarray]] = []
        for name in layers:

            def keep(module: Module, args: tuple, output: Any, name: str = name) -> None:
                first = output[0] if isinstance(output, (tuple, list)) else output
                # A copy: the layer behind may overwrite it.
                found.append((name, np.array(first.detach().cpu().numpy())))

            hooks.enter_context(layer_named(model, name).register_forward_hook(keep))
        model(image_batch(model, image))
    return found
