"""cnnext.profile: which operations took how long.

While a profile is active, the class `Primitive`, the gradients' `Node.vjp` and the functions of `cnnext._C`
are replaced by versions that take times; otherwise nothing of it runs, so that it costs nothing.
"""

from __future__ import annotations

import inspect
import json
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _C, costs
from .nn.module import Parameter
from .tables import aligned
from .tape import Node, Primitive, Variable

_clock = time.perf_counter_ns
_active = threading.Lock()
_HEADINGS = ["pass", "op", "calls", "total ms", "%", "mean us", "GFLOP/s", "GB/s", "kept MB"]


@dataclass
class Event:
    """One operation. Times in nanoseconds, `start` since the profile's."""

    name: str
    phase: str  #: "forward", "backward" or "update" (of an optimizer)
    start: int
    duration: int = 0
    thread: int = 0
    flops: int = 0  #: twice the multiply-adds of convolutions and dense layers; 0 for the rest
    bytes: int = 0  #: of the arrays in and out
    written: int = 0  #: of these the results; 0 for views
    kept: int = 0  #: bytes that wait for the backward pass and that no operation before kept
    kernel: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()


class _Local(threading.local):
    open: Event | None = None  # the primitive that runs
    backward = 0  # how deep in gradient rules


class profile:
    """Times the operations in a `with` block; afterwards str() or table(), events, export_chrome_trace(path).

    with cx.profile() as p:
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
    print(p)

    Operations on tensors are timed with their recording on the tape; those of cnnext.ops, and the updates of
    cnnext.optim, by themselves. What is left of the wall time is Python between them. One profile at a time.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seconds = 0.0  #: wall time of the block
        self._replaced: list[tuple[Any, str, Any]] = []
        self._seen: dict[int, weakref.ref] = {}

    def __enter__(self) -> profile:
        if not _active.acquire(blocking=False):
            raise RuntimeError("a profile is active already; there can be one at a time")
        self.events, self._seen, self._local = [], {}, _Local()
        self._replace(Primitive, "__call__", self._timed_primitive(Primitive.__call__))
        self._replace(Node, "vjp", self._in_backward(Node.vjp))
        for name, function in vars(_C).copy().items():
            if inspect.isroutine(function) and not name.startswith("_"):
                self._replace(_C, name, self._timed_kernel(name, function))
        self._started = _clock()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.seconds = (_clock() - self._started) / 1e9
        while self._replaced:
            setattr(*self._replaced.pop())
        self._seen = {}
        _active.release()

    def _replace(self, owner: Any, name: str, new: Any) -> None:
        self._replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, new)

    # -- what runs in place of the functions --

    def _begin(self, name: str, arguments: Any) -> Event:
        phase = "backward" if self._local.backward else "forward"
        if name in ("sgd_step", "adam_step"):
            phase = "update"
        shapes = tuple(tuple(a.shape) for a in arguments if hasattr(a, "shape"))
        return Event(name, phase, 0, thread=threading.get_ident(), shapes=shapes)

    def _end(self, event: Event, start: int) -> None:
        event.duration = _clock() - start
        event.start = start - self._started
        self.events.append(event)

    def _timed_primitive(self, call: Callable) -> Callable:
        local = self._local

        def timed(primitive: Primitive, *args: Any, **params: Any) -> Any:
            outer, event = local.open, self._begin(primitive.name, args)
            local.open, start = event, _clock()
            try:
                result = call(primitive, *args, **params)
            finally:
                local.open = outer
            self._end(event, start)
            outputs = result if isinstance(result, tuple) else (result,)
            if not primitive.view:
                event.bytes = costs.nbytes([a.data if isinstance(a, Variable) else a for a in args])
                event.written = costs.nbytes([out.data for out in outputs])
                event.bytes += event.written
            event.kept = self._kept(outputs[0]._node)
            return result

        return timed

    def _timed_kernel(self, name: str, function: Callable) -> Callable:
        local = self._local

        def timed(*args: Any, **options: Any) -> Any:
            size = costs.nbytes(args)
            if not size:  # a question, no operation
                return function(*args, **options)
            event = local.open  # within a primitive it is no event of its own
            start = _clock()
            if event is None:
                event = self._begin(name, args)
                result = function(*args, **options)
                self._end(event, start)
                event.written = costs.nbytes(result)
                event.bytes = size + event.written
            else:
                result = function(*args, **options)
            event.flops += 2 * costs.macs(name, args, result)
            event.kernel = last_kernel()
            return result

        last_kernel = _C.last_kernel
        return timed

    def _in_backward(self, vjp: Callable) -> Callable:
        local = self._local

        def within(node: Node, *args: Any) -> Any:
            local.backward += 1
            try:
                return vjp(node, *args)
            finally:
                local.backward -= 1

        return within

    def _kept(self, node: Node | None) -> int:
        """Bytes that a node saves; not parameters, which are there anyway, and no memory twice."""
        total = 0
        for _, value, *_ in node.saved if node is not None and isinstance(node.saved, list) else ():
            if isinstance(value, Variable):
                if isinstance(value, Parameter):
                    continue
                value = value.data
            while isinstance(value, np.ndarray) and isinstance(value.base, np.ndarray):
                value = value.base
            seen = self._seen.get(id(value))
            if isinstance(value, np.ndarray) and (seen is None or seen() is not value):
                self._seen[id(value)] = weakref.ref(value)
                total += value.nbytes
        return total

    # -- what it found --

    def table(self, group_by_input_shape: bool = False) -> str:
        """Time by pass and operation, the longest first; with group_by_input_shape also by shapes.

        GFLOP/s count convolutions and dense layers, GB/s the arrays in and out, both over the operation's
        time; "kept" is memory that waits for the backward pass.
        """
        groups: dict[tuple, list[Event]] = {}
        for event in self.events:
            key = (event.phase, event.name, event.shapes if group_by_input_shape else ())
            groups.setdefault(key, []).append(event)
        whole = sum(e.duration for e in self.events)
        rows = [[*_HEADINGS, "input shapes"] if group_by_input_shape else _HEADINGS]
        for (phase, name, shapes), events in sorted(
            groups.items(), key=lambda item: -sum(e.duration for e in item[1])
        ):
            took, flops, moved, kept = (
                sum(getattr(e, field) for e in events) for field in ("duration", "flops", "bytes", "kept")
            )
            took = max(took, 1)
            row = [
                phase,
                name,
                str(len(events)),
                f"{took / 1e6:.3f}",
                f"{100 * took / max(whole, 1):.1f}",
                f"{took / 1e3 / len(events):.1f}",
                f"{flops / took:.1f}" if flops else "",
                f"{moved / took:.1f}" if moved else "",
                f"{kept / 1e6:.2f}" if kept else "",
            ]
            rows.append([*row, " ".join(map(str, shapes))] if group_by_input_shape else row)
        by_phase = {
            phase: sum(e.duration for e in self.events if e.phase == phase) / 1e6
            for phase in dict.fromkeys(e.phase for e in self.events)
        }
        parts = "".join(f"; {phase} {ms:.3f}" for phase, ms in by_phase.items())
        total = f"operations {whole / 1e6:.3f} ms of {self.seconds * 1e3:.3f} ms{parts}"
        return "\n".join([*aligned(rows, set(_HEADINGS[2:])), total])

    __str__ = table

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events as JSON for chrome://tracing or ui.perfetto.dev."""
        events = [
            {
                "name": e.name,
                "cat": e.phase,
                "ph": "X",
                "ts": e.start / 1e3,
                "dur": e.duration / 1e3,
                "pid": os.getpid(),
                "tid": e.thread,
                "args": {
                    "input shapes": e.shapes,
                    "kernel": e.kernel,
                    "flops": e.flops,
                    "bytes": e.bytes,
                    "kept for backward": e.kept,
                },
            }
            for e in sorted(self.events, key=lambda e: e.start)
        ]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ms"}, file)
