"""Reverse-mode differentiation over the tape: backward, grad, and rules by composition.

It does not recurse, so that a chain may be of any length, and visits nodes in the reverse order of their
making: the same graph gives the same bits.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import leaf_hooks
from .devices import asarray_like
from .grad_mode import enable_grad, is_grad_enabled, set_grad_enabled
from .tape import FREED, Node, Variable, defvjp, edge_of, primitive, wrap

__all__ = ["backward", "defvjp", "grad", "primitive", "vjp_through"]


def _lead_to(targets: set, start: Sequence[tuple], stop: bool) -> set:
    """The edges from which a target can be reached; with `stop` nothing beyond a target is looked at."""
    seen, stack, nodes = set(), [edge[0] for edge in start if not (stop and edge in targets)], []
    while stack:
        node = stack.pop()
        if node in seen or not isinstance(node, Node):
            continue
        seen.add(node)
        nodes.append(node)
        stack += [edge[0] for edge in node.edges if edge is not None and not (stop and edge in targets)]
    useful = set(targets)
    for node in sorted(nodes, key=lambda n: n.order):
        if any(edge is not None and edge in useful for edge in node.edges):
            useful.update((node, i) for i in range(node.outputs))
    return useful


def _is_fresh(grad: Variable, grads: list, values: dict[str, Any]) -> bool:
    """Is this gradient's memory in nobody else's hands, so that a leaf may keep it without a copy?"""
    data = grad.data
    if isinstance(data.base, type(data)):
        return False
    if len([other for other in grads if other is not None and other.data is data]) > 1:
        return False
    for value in (*values.values(), *values["gs"]):  # a plain loop: this runs once for every parameter
        if value is data or (isinstance(value, Variable) and value.data is data):
            return False
    return True


def _edges_to(leaves: Any, outputs: Sequence[Variable]) -> dict[Any, int]:
    """How many edges of the graph behind `outputs` end in each of these leaves."""
    count: dict[Any, int] = {}
    seen, stack = set(), [v._node for v in outputs if v._node is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for edge in node.edges:
            if edge is None:
                continue
            if type(edge[0]) is Node:
                stack.append(edge[0])
            elif edge[0] in leaves:
                count[edge[0]] = count.get(edge[0], 0) + 1
    return count


def _run(
    outputs: Sequence[Variable],
    grads: Sequence[Variable],
    inputs: Sequence[Variable] | None,
    retain_graph: bool,
    create_graph: bool,
    stop: bool = False,
    waiting: dict[Any, int] | None = None,
    complete: Callable[[Any, Any, bool], None] | None = None,
) -> dict[tuple, tuple[Any, bool]]:
    """Gradients by edge, for `inputs` or else for every leaf; the flag: the array is ours to change.

    waiting: leaves with the number of edges to each: complete(leaf, gradient, flag) takes their gradients as
    soon as nothing can be added.
    """
    targets = None if inputs is None else {edge_of(v) for v in inputs}
    useful = None if targets is None else _lead_to(targets, [edge_of(v) for v in outputs], stop)
    sums: dict[tuple, tuple[Any, bool]] = {}
    heap: list[tuple[int, Node]] = []
    scheduled: set[Node] = set()

    def send(edge: tuple, grad: Any, fresh: bool) -> None:
        old = sums.get(edge)
        if old is not None:
            if old[1] and not create_graph:
                np.add(old[0].data, grad.data, out=old[0].data)
            else:
                sums[edge] = (old[0] + grad, True)
            return
        sums[edge] = (grad, fresh)
        node = edge[0]
        if type(node) is Node and node not in scheduled and not (stop and edge in targets):
            scheduled.add(node)
            heapq.heappush(heap, (-node.order, node))

    with set_grad_enabled(create_graph), np.errstate(all="ignore"):
        for variable, grad in zip(outputs, grads, strict=True):
            send(edge_of(variable), grad, False)
        while heap:
            node = heapq.heappop(heap)[1]
            gs = []
            for i in range(node.outputs):
                key = (node, i)
                keep = targets is not None and key in targets
                found = sums.get(key) if keep else sums.pop(key, None)
                gs.append(None if found is None else found[0])
            wanted = node.wanted
            if useful is not None:
                wanted = tuple([e is not None and e in useful for e in node.edges])
                if True not in wanted:
                    continue
            results, values = node.vjp(tuple(gs), wanted)
            if not retain_graph and node.saved:
                node.saved = FREED
            for edge, grad in zip(node.edges, results, strict=False):
                if grad is not None:
                    send(edge, grad, type(edge[0]) is not Node and _is_fresh(grad, results, values))
            if waiting:
                for edge in node.edges:
                    if edge is None or edge[0] not in waiting:
                        continue
                    waiting[edge[0]] -= 1
                    if not waiting[edge[0]] and edge in sums:
                        complete(edge[0], *sums.pop(edge))
    return sums if targets is None else {edge: sums[edge] for edge in targets if edge in sums}


def _root_gradients(outputs: Sequence[Variable], gradients: Sequence[Any], name: str) -> list[Any]:
    result = []
    for out, gradient in zip(outputs, gradients, strict=True):
        if not isinstance(out, Variable) or not out._requires_grad:
            raise RuntimeError(f"{name}: the tensor does not require grad and has no grad_fn")
        if out._view is not None and out._view != out._version.epoch and out._node is not None:
            raise RuntimeError(
                f"{name}: this view was made before its base was changed in place; make it again"
            )
        if gradient is None:
            if out.data.size != 1:
                raise RuntimeError(
                    f"{name}: grad can be implicitly created only for scalar outputs; this one has shape "
                    f"{list(out.data.shape)}: pass its gradient"
                )
            gradient = wrap(np.ones_like(out.data))
        elif not isinstance(gradient, Variable):
            gradient = wrap(asarray_like(gradient, out.data, out.data.dtype))
        if gradient.data.shape != out.data.shape:
            raise ValueError(
                f"{name}: gradient has shape {list(gradient.data.shape)}, its output {list(out.data.shape)}"
            )
        result.append(gradient if gradient.data.dtype == out.data.dtype else gradient.to(out.data.dtype))
    return result


def backward(
    tensor: Variable, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False
) -> None:
    """Add the gradients of `tensor` to the .grad of every leaf that it depends on (torch.Tensor.backward).

    gradient: of `tensor`; may be left out for one element. retain_graph: keep what was saved, for a second
    pass (default: create_graph). create_graph: let the gradients themselves be differentiated.
    """
    roots = _root_gradients([tensor], [gradient], "backward()")
    retain = create_graph if retain_graph is None else retain_graph
    hooks = leaf_hooks.watched()

    def accumulate(leaf: Any, grad: Any, fresh: bool) -> None:
        if leaf.grad is None:
            leaf.grad = grad if fresh else grad.clone()
        elif create_graph:
            leaf.grad = leaf.grad + grad
        else:
            np.add(leaf.grad.data, grad.data, out=leaf.grad.data)
            leaf.grad._version.count += 1
        if leaf in hooks:
            leaf_hooks.call_all(list(hooks[leaf].after.values()), leaf)

    through = False
    if hooks:
        leaf_hooks.begin()
    try:
        waiting = _edges_to(hooks, [tensor]) if hooks else None
        sums = _run([tensor], roots, None, retain, create_graph, waiting=waiting, complete=accumulate)
        with set_grad_enabled(create_graph), np.errstate(all="ignore"):
            for (leaf, _), (grad, fresh) in sums.items():
                accumulate(leaf, grad, fresh)
        through = True
    finally:
        if hooks:
            leaf_hooks.finish(through)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple:
    """The gradients of the sum of `outputs` with respect to `inputs` (torch.autograd.grad); .grad stays."""
    outputs = [outputs] if isinstance(outputs, Variable) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Variable) else list(inputs)
    if (
        grad_outputs is None
        or isinstance(grad_outputs, Variable)
        or not isinstance(grad_outputs, (list, tuple))
    ):
        grad_outputs = [grad_outputs] * len(outputs) if grad_outputs is None else [grad_outputs]
    if len(grad_outputs) != len(outputs):
        raise ValueError(f"grad_outputs has {len(grad_outputs)} entries for {len(outputs)} outputs")
    for i, variable in enumerate(inputs):
        if not isinstance(variable, Variable) or not variable._requires_grad:
            raise RuntimeError(f"grad(): inputs[{i}] does not require grad")
    roots = _root_gradients(outputs, grad_outputs, "grad()")
    found = _run(outputs, roots, inputs, create_graph if retain_graph is None else retain_graph, create_graph)
    result = tuple(found.get(edge_of(v), (None,))[0] for v in inputs)
    if not allow_unused and None in [None if r is None else 0 for r in result]:
        unused = [i for i, r in enumerate(result) if r is None]
        raise RuntimeError(
            f"grad(): inputs {unused} were not used in the graph; pass allow_unused=True if that is meant"
        )
    return result


@primitive(view=True)
def alias(x: Any) -> Any:
    return x


defvjp(alias, lambda g: g)


def vjp_through(fn: Callable, inputs: Sequence[Any], gs: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
    """For a rule without a closed form: the gradients of fn(*inputs), fn being made of primitives."""
    create_graph = is_grad_enabled()

    def local_copy(x: Any, w: bool) -> Any:
        if not isinstance(x, Variable) or create_graph:
            return alias(x) if isinstance(x, Variable) else x
        leaf = wrap(x.data)
        leaf._requires_grad = w
        return leaf

    with enable_grad():
        local = [local_copy(x, w) for x, w in zip(inputs, wanted, strict=True)]
        outputs = fn(*local)
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        pairs = [(o, g) for o, g in zip(outputs, gs, strict=True) if g is not None and o._requires_grad]
        targets = [x for x, w in zip(local, wanted, strict=True) if w]
        found = _run(
            [o for o, _ in pairs], [g for _, g in pairs], targets, create_graph, create_graph, stop=True
        )
    return [found.get(edge_of(x), (None,))[0] if w else None for x, w in zip(local, wanted, strict=True)]
