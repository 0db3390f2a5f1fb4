"""One contestant's whole steps in a process of its own: `python -m bench.step_worker LIBRARY THREADS DEVICE`.

cnnext's API has torch's names, so that the step is written once. So are the networks: torch runs the sources
of cnnext.models with its own layers.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from bench.libraries import make
from bench.libraries.ours import allow_tf32
from bench.places import place_of
from bench.step_peers import is_torch, session
from bench.steps import STEPS
from bench.worker import serve


def torch_models() -> Any:
    """cnnext.models on torch.nn: the same files, in a package whose Tensor and nn are torch's."""
    import torch

    name = "cnnext_models_on_torch"
    package = types.ModuleType(name)
    nn = types.ModuleType(f"{name}.nn")
    vars(nn).update({key: value for key, value in vars(torch.nn).items() if not key.startswith("__")})

    class LayerNorm2d(torch.nn.LayerNorm):  # torchvision's, which is no layer of torch's
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    nn.LayerNorm2d = LayerNorm2d
    package.Tensor, package.nn, package.rand, package.full = torch.Tensor, nn, torch.rand, torch.full
    found = importlib.util.find_spec("cnnext")
    assert found is not None
    assert found.origin is not None
    package.__path__ = [str(Path(found.origin).parent)]
    sys.modules.update({name: package, f"{name}.nn": nn})
    return importlib.import_module(f"{name}.models")


def fill(model: Any) -> None:
    """The same weights in every library."""
    random = np.random.default_rng(0)
    for _, p in model.named_parameters():
        if p.ndim > 1:
            p.detach().numpy()[...] = random.standard_normal(p.shape, np.float32)
            p.detach().numpy()[...] *= np.float32(math.sqrt(2 / math.prod(p.shape[1:])))
        elif not (p.detach().numpy() == 1).all():  # biases; a norm's weights stay one
            p.detach().numpy()[...] = 0


class Server:
    """Holds one step in one memory layout."""

    def __init__(self, contestant: str, threads: int, device: str) -> None:
        self.contestant, self.threads = contestant, threads
        self.place = place_of(device)
        driver, ours = self.place.driver, contestant == "cnnext"
        with self.place.working():
            library = make("torch" if is_torch(contestant) else contestant, threads, None if ours else driver)
            self.about = library.describe()
            if not ours and not is_torch(contestant):
                make("torch", threads)
        self.use = allow_tf32 if ours else getattr(library, "use", None)
        if driver:
            self.about = {**driver.describe(), **self.about}
        self.device = library.device if driver and not ours else device
        self.library = importlib.import_module("cnnext" if ours else "torch")
        self.models = importlib.import_module("cnnext.models") if ours else torch_models()
        self.place.imported()

    def describe(self) -> dict[str, Any]:
        return self.about

    def prepare(self, step: str, layout: str, dtype: str = "float32") -> dict[str, Any]:
        if self.place.driver:
            self.use(dtype)
        with self.place.working():
            self._prepare(step, layout)
        return {}

    def _prepare(self, step: str, layout: str) -> None:
        library, chosen = self.library, STEPS[step]
        self.training = chosen.training
        model = self.models.create(chosen.model, **chosen.options)
        fill(model)
        random = np.random.default_rng(1)
        images = random.standard_normal((chosen.batch, *chosen.image), np.float32)
        x = library.from_numpy(images)
        labels = library.from_numpy(random.integers(0, 10, chosen.batch))
        if self.device != "cpu":
            model, x, labels = (thing.to(self.device) for thing in (model, x, labels))
        if layout == "nhwc":
            model.to(memory_format=library.channels_last)
            x = x.contiguous(memory_format=library.channels_last)
        fast = {}
        if library.__name__ == "torch":  # as torchvision has it, and torch's fastest SGD
            fast = {"fused": True}
            for module in model.modules():
                if type(module).__name__ in ("ReLU", "ReLU6"):
                    module.inplace = True
        run = library.compile(model) if self.contestant == "torch_compile" else model
        if chosen.training:
            model.train()
            optimizer = library.optim.SGD(
                model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, **fast
            )

            @library.enable_grad()
            def call() -> Any:
                loss = library.nn.functional.cross_entropy(run(x), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                return loss.detach()
        elif self.contestant == "cnnext" or is_torch(self.contestant):
            model.eval()

            @library.no_grad()
            def call() -> Any:
                return run(x)
        else:
            call = session(self.contestant, model.eval(), x, self.threads)
        self.call = call

    def check(self) -> dict[str, Any]:
        """The losses of the first steps, or the logits. Peaks of memory are those of what follows."""
        with self.place.working():
            found = [self.call() for _ in range(3 if self.training else 1)]
            values = [np.reshape(y if isinstance(y, np.ndarray) else y.cpu().numpy(), -1) for y in found]
            del found
        self.place.reset_peak()
        return {"values": np.concatenate(values).tolist()}

    def time(self, repeats: int, rest_ms: float) -> dict[str, Any]:
        with self.place.working():
            return {"times_ms": self.place.timed(self.call, repeats, rest_ms)}

    def memory(self) -> dict[str, Any]:
        return self.place.memory()

    def healthy(self) -> dict[str, Any]:
        """Fails where the device's context is lost."""
        if self.place.driver:
            self.place.driver.synchronize()
        return {}


if __name__ == "__main__":
    serve(lambda: Server(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
