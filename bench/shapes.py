"""The layers to measure: the grammar of bench/shapes/*.txt, and what follows from a layer's sizes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

FOLDER = Path(__file__).parent / "shapes"
#: The passes of each kind of layer. "conv_relu_pool" is a convolution, ReLU and max-pool in one, and
#: "conv_norm_relu" a convolution, batch norm in training and ReLU; their bwd_data gives all gradients.
PASSES = {
    "conv": ("fwd", "bwd_data", "bwd_weights"),
    "max_pool": ("fwd", "bwd_data"),
    "avg_pool": ("fwd", "bwd_data"),
    "conv_relu_pool": ("fwd", "bwd_data"),
    "conv_norm_relu": ("fwd", "bwd_data"),
    "relu": ("fwd", "bwd_data"),
    "add": ("fwd",),
    "batch_norm": ("fwd", "bwd_data"),
    "softmax": ("fwd", "bwd_data"),
}
KINDS = tuple(PASSES)
FUSED = ("conv_relu_pool", "conv_norm_relu")
POINTWISE = ("relu", "add", "batch_norm", "softmax")
_SIZES = ("N", "C", "H", "W", "K", "R", "S", "groups")
_PAIRS = ("stride", "padding", "dilation")
POOL_PAIRS = ("pool", "pool_stride", "pool_padding")


class ShapeError(ValueError):
    """A shape file that does not follow the grammar."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer: (N,C,H,W) in, filter (K,C/groups,R,S) or window (R,S), (N,K,P,Q) out of that."""

    kind: str
    name: str
    N: int
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pool: tuple[int, int] = (1, 1)  # the window behind a convolution
    pool_stride: tuple[int, int] = (1, 1)
    pool_padding: tuple[int, int] = (0, 0)

    @property
    def P(self) -> int:
        return (self.H + 2 * self.padding[0] - self.dilation[0] * (self.R - 1) - 1) // self.stride[0] + 1

    @property
    def Q(self) -> int:
        return (self.W + 2 * self.padding[1] - self.dilation[1] * (self.S - 1) - 1) // self.stride[1] + 1

    @property
    def passes(self) -> tuple[str, ...]:
        return PASSES[self.kind]

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.N, self.C, self.H, self.W)

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return (self.K, self.C // self.groups, self.R, self.S)

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        pooled = [
            (size + 2 * pad - window) // stride + 1
            for size, window, stride, pad in zip(
                (self.P, self.Q), self.pool, self.pool_stride, self.pool_padding, strict=True
            )
        ]
        return (self.N, self.K, pooled[0], pooled[1])

    @property
    def has_filter(self) -> bool:
        return self.kind.startswith("conv")

    @property
    def flops(self) -> int:
        """A convolution's multiplications and additions, direct, padding taps counted; 0 for the rest."""
        if not self.has_filter:
            return 0
        return 2 * self.N * self.K * self.P * self.Q * (self.C // self.groups) * self.R * self.S

    def bytes_of(self, which: str, size: int = 4) -> int:
        """What any implementation moves at least: each operand once, of `size` bytes an element; an argmax as
        one byte."""
        x, y = math.prod(self.x_shape), math.prod(self.y_shape)
        if self.kind in POINTWISE:  # a gradient reads what the forward read or wrote as well
            return size * x * (3 if self.kind == "add" or which != "fwd" else 2)
        floats = x + y
        if self.has_filter:
            w = math.prod(self.w_shape)
            floats += w
            if self.kind in FUSED and which != "fwd":
                floats += x + w  # read and written
            if self.kind == "conv_norm_relu":  # the convolution's result, written and read once
                floats += 2 * y
        return size * floats + (y if self.kind.endswith("pool") and self.kind != "avg_pool" else 0)

    def with_batch(self, batch: int | None) -> Layer:
        return self if batch is None else dataclasses.replace(self, N=batch)


def _whole(text: str, key: str, least: int, where: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ShapeError(f"{where}: {key} is {text!r}; it must be a whole number") from None
    if value < least:
        raise ShapeError(f"{where}: {key} is {value}; it must be at least {least}")
    return value


def _pair(text: str, key: str, where: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) not in (1, 2):
        raise ShapeError(f"{where}: {key} is {text!r}; it must be one number or two with a comma (h,w)")
    values = [_whole(part, key, 0 if key.endswith("padding") else 1, where) for part in parts]
    return (values[0], values[-1])


def _check(layer: Layer, where: str) -> Layer:
    if layer.C % layer.groups or layer.K % layer.groups:
        raise ShapeError(f"{where}: groups={layer.groups} must divide C={layer.C} and K={layer.K}")
    height, width = layer.y_shape[2:] if layer.P > 0 and layer.Q > 0 else (layer.P, layer.Q)
    if height < 1 or width < 1:
        size = f"{height} x {width}"
        raise ShapeError(f"{where}: the output would be {size}; the filter does not fit the image")
    if not layer.has_filter and (2 * layer.padding[0] > layer.R or 2 * layer.padding[1] > layer.S):
        raise ShapeError(f"{where}: a pool's padding may be at most half its window")
    return layer


def parse_line(line: str, where: str = "line") -> Layer | None:
    """The layer that a line of a shape file describes; None for a blank line or a comment.

    KIND NAME KEY=VALUE ...: see bench/README.md. Raises ShapeError.
    """
    words = line.split("#", 1)[0].split()
    if not words:
        return None
    if words[0] not in KINDS:
        raise ShapeError(
            f"{where}: {words[0]!r} is not a kind of layer; it must be one of {', '.join(KINDS)}"
        )
    if len(words) < 2 or "=" in words[1]:
        raise ShapeError(f"{where}: a name must follow {words[0]!r}")
    is_conv = words[0].startswith("conv")
    pools = POOL_PAIRS if words[0] == "conv_relu_pool" else ()
    if words[0] in POINTWISE:
        allowed: tuple[str, ...] = ("N", "C", "H", "W")
    elif is_conv:
        allowed = (*_SIZES, *_PAIRS, *pools)
    else:
        allowed = tuple(k for k in (*_SIZES, *_PAIRS) if k not in ("K", "groups"))
    values: dict[str, object] = {}
    for word in words[2:]:
        key, equals, text = word.partition("=")
        if not equals or key not in allowed:
            raise ShapeError(f"{where}: {word!r} is not KEY=VALUE with a key of {', '.join(allowed)}")
        if key in values:
            raise ShapeError(f"{where}: {key} is given twice")
        values[key] = _whole(text, key, 1, where) if key in _SIZES else _pair(text, key, where)
    values.setdefault("N", 1)
    if not is_conv and "C" in values:
        values["K"] = values["C"]
        values.setdefault("stride", (values.get("R"), values.get("S")))  # as the libraries' default
    if words[0] in POINTWISE:
        values |= {"R": 1, "S": 1, "stride": (1, 1)}
    if pools:
        values.setdefault("pool_stride", values.get("pool"))
    missing = [key for key in ("C", "H", "W", "K", "R", "S", *pools[:1]) if key not in values]
    if missing:
        raise ShapeError(f"{where}: {', '.join(missing)} must be given")
    return _check(Layer(words[0], words[1], **values), where)  # type: ignore[arg-type]


def read_file(path: Path) -> list[Layer]:
    """The layers of a shape file, in its order. Raises ShapeError, OSError."""
    layers: list[Layer] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ShapeError(f"{path}: not a text file") from None
    for number, line in enumerate(lines, 1):
        layer = parse_line(line, f"{path}:{number}")
        if layer is None:
            continue
        if any((other.kind, other.name) == (layer.kind, layer.name) for other in layers):
            raise ShapeError(f"{path}:{number}: there is a {layer.kind} {layer.name!r} already")
        layers.append(layer)
    if not layers:
        raise ShapeError(f"{path}: no layers")
    return layers


def stored() -> list[str]:
    """The names of the shape files that come with the benchmark."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def load(name: str) -> list[Layer]:
    """The layers of a stored file by its name, or of any file by its path."""
    path = Path(name)
    if name in stored():
        path = FOLDER / f"{name}.txt"
    elif not path.is_file():
        raise ShapeError(f"{name!r} is neither a file nor one of the stored shapes: {', '.join(stored())}")
    return read_file(path)
