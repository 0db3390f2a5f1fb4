"""ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, "A ConvNet for the 2020s", 2022."""

from __future__ import annotations

from .. import Tensor, full, nn, rand
from ..nn import LayerNorm2d, init

__all__ = ["CNBlock", "ConvNeXt", "LayerNorm2d", "Permute", "StochasticDepth", "convnext_tiny"]


class Permute(nn.Module):
    """Dimensions in another order, as a view (torchvision.ops.Permute)."""

    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(*self.dims)

    def extra_repr(self) -> str:
        return f"{self.dims}"


class StochasticDepth(nn.Module):
    """In training, a whole image's branch is zero with probability p, else times 1 / (1 - p): (N, ...).

    Huang et al., 2016; torchvision.ops.StochasticDepth with mode="row". Drawn as manual_seed says.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p={p!r} must be at least 0 and below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = rand(x.shape[0], *(1,) * (x.ndim - 1), device=x.device) >= self.p
        return x * (kept.to(x.dtype) / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class CNBlock(nn.Module):
    """7x7 depthwise, layer norm, two dense layers over the channels with GELU between, scaled and added.

    (N, channels, H, W), same shape out.
    """

    def __init__(self, channels: int, layer_scale: float, drop: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            Permute([0, 2, 3, 1]),
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute([0, 3, 1, 2]),
        )
        self.layer_scale = nn.Parameter(full((channels, 1, 1), layer_scale))
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.stochastic_depth(self.layer_scale * self.block(x))


class ConvNeXt(nn.Module):
    """A 4x4 stem of stride 4, stages of blocks with 2x2 convolutions of stride 2 between, a global average.

    Images (N, 3, H, W) to logits (N, classes). drop: the last block's stochastic depth; those before it have
    less, linearly. The weights have the names of torchvision's.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        classes: int,
        drop: float = 0.0,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), LayerNorm2d(widths[0], eps=1e-6))
        )
        number = 0
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if stage:
                norm = LayerNorm2d(widths[stage - 1], eps=1e-6)
                self.features.append(nn.Sequential(norm, nn.Conv2d(widths[stage - 1], width, 2, 2)))
            row = nn.Sequential()
            for _ in range(depth):
                row.append(CNBlock(width, layer_scale, drop * number / max(sum(depths) - 1, 1)))
                number += 1
            self.features.append(row)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            LayerNorm2d(widths[-1], eps=1e-6), nn.Flatten(1), nn.Linear(widths[-1], classes)
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                init.trunc_normal_(module.weight, std=0.02)
                init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


def convnext_tiny(classes: int = 1000, drop: float = 0.1) -> ConvNeXt:
    """Widths 96 to 768, blocks 3, 3, 9, 3: 28,589,128 parameters; 224x224 images, at least 32x32."""
    return ConvNeXt((96, 192, 384, 768), (3, 3, 9, 3), classes, drop)
