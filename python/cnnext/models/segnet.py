"""SegNet: Badrinarayanan, Kendall and Cipolla, "A Deep Convolutional Encoder-Decoder Architecture", 2015."""

from __future__ import annotations

from .. import Tensor, nn
from ._init import init_convolutions

__all__ = ["SegNet", "segnet", "segnet_small"]


def _row(channels: list[int], last: bool = False) -> nn.Sequential:
    """3x3 convolutions through these channels, each with batch norm and ReLU; `last`: the last one bare."""
    row = nn.Sequential()
    for i in range(len(channels) - 1):
        row.append(nn.Conv2d(channels[i], channels[i + 1], 3, padding=1))
        if not (last and i == len(channels) - 2):
            row.extend([nn.BatchNorm2d(channels[i + 1]), nn.ReLU()])
    return row


class SegNet(nn.Module):
    """Stages of 3x3 convolutions with max-pools between, and their mirror image, which unpools.

    Images (N, inputs, H, W) to one logit map a class (N, classes, H, W), of any H and W of at least
    2 ** len(widths): the max-pools' argmax tells where each value goes back to, so that edges stay sharp.
    """

    def __init__(
        self, widths: tuple[int, ...], depths: tuple[int, ...], classes: int, inputs: int = 3
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        before = (inputs, *widths[:-1])
        for channels, width, depth in zip(before, widths, depths, strict=True):
            self.encoder.append(_row([channels, *[width] * depth]))
        for stage in reversed(range(len(widths))):
            outputs = before[stage] if stage else classes
            self.decoder.append(_row([widths[stage]] * depths[stage] + [outputs], last=stage == 0))
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        init_convolutions(self, "relu")

    def forward(self, x: Tensor) -> Tensor:
        places = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[-2:]
            x, indices = self.pool(x)
            places.append((indices, size))
        for stage in self.decoder:
            indices, size = places.pop()
            x = stage(self.unpool(x, indices, output_size=size))
        return x


def segnet(classes: int = 12) -> SegNet:
    """The paper's: VGG-16's 13 convolutions and their mirror image; 29,449,932 parameters."""
    return SegNet((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), classes)


def segnet_small(classes: int = 11, inputs: int = 1) -> SegNet:
    """Three stages, for 32x32 images of one channel: what `cnnext train segment-digits` trains."""
    return SegNet((16, 32, 64), (1, 2, 2), classes, inputs)
