"""One contestant's whole steps in a process of its own: `python -m bench.step_worker LIBRARY THREADS`.

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
from bench.step_peers import is_torch, session
from bench.steps import STEPS
from bench.worker import serve, timed


def torch_models() -> Any:
    """cnnext.models on torch.nn: the same files, in a package whose Tensor and nn are torch's."""
    import torch

    name = "cnnext_models_on_torch"
    package = types.ModuleType(name)
    package.Tensor, package.nn, package.rand, package.full = torch.Tensor, torch.nn, torch.rand, torch.full
    found = importlib.util.find_spec("cnnext")
    assert found is not None
    assert found.origin is not None
    package.__path__ = [str(Path(found.origin).parent)]
    sys.modules.update({name: package, f"{name}.nn": torch.nn})
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


def resident_mb(what: str) -> float:
    """VmRSS, now, or VmHWM, the most since reset_peak()."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status has no {what}")


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Server:
    """Holds one step in one memory layout."""

    def __init__(self, contestant: str, threads: int) -> None:
        self.contestant, self.threads = contestant, threads
        ours = contestant == "cnnext"
        self.about = make("torch" if is_torch(contestant) else contestant, threads).describe()
        if not ours:
            make("torch", threads)
        self.library = importlib.import_module("cnnext" if ours else "torch")
        self.models = importlib.import_module("cnnext.models") if ours else torch_models()
        self.before_mb = resident_mb("VmRSS")

    def describe(self) -> dict[str, Any]:
        return self.about

    def prepare(self, step: str, layout: str) -> dict[str, Any]:
        library, chosen = self.library, STEPS[step]
        self.training = chosen.training
        model = self.models.create(chosen.model, **chosen.options)
        fill(model)
        random = np.random.default_rng(1)
        images = random.standard_normal((chosen.batch, *chosen.image), np.float32)
        x = library.from_numpy(images)
        labels = library.from_numpy(random.integers(0, 10, chosen.batch))
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
        return {}

    def check(self) -> dict[str, Any]:
        """The losses of the first steps, or the logits. Peaks of memory are those of what follows."""
        found = [self.call() for _ in range(3 if self.training else 1)]
        values = [np.reshape(y if isinstance(y, np.ndarray) else y.numpy(), -1) for y in found]
        del found
        reset_peak()
        return {"values": np.concatenate(values).tolist()}

    def time(self, repeats: int, rest_ms: float) -> dict[str, Any]:
        return {"times_ms": timed(self.call, repeats, rest_ms, least_s=0.1, limit_s=1.0)}

    def memory(self) -> dict[str, Any]:
        return {"peak_mb": resident_mb("VmHWM"), "before_mb": self.before_mb}


if __name__ == "__main__":
    serve(lambda: Server(sys.argv[1], int(sys.argv[2])))
