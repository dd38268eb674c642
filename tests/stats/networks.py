"""Small networks with every oddity that statistics must survive, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Tensor, Tensor]


class Odd(nn.Module):
    """Grouped, depthwise, dilated, transposed, padded in a circle, reused, dead, zero-fed and never run."""

    def __init__(self, *, inplace: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 12, (3, 1), padding=(1, 0), groups=4)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=12)
        self.circular = nn.Conv2d(12, 12, 3, padding=1, padding_mode="circular")
        self.reused = nn.Conv2d(12, 12, 1)
        self.dead = nn.Conv2d(12, 6, 1)
        self.unused = nn.Conv2d(12, 6, 1)
        self.zero_fed = nn.Conv2d(12, 12, 1, bias=False)
        self.act = nn.ReLU(inplace=inplace)
        self.leaky = nn.LeakyReLU(0.3, inplace=inplace)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(12, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
            nn.BatchNorm2d(6),
            nn.LeakyReLU(0.2, inplace=inplace),
            nn.Conv2d(6, 5, 3, padding="same"),
        )
        self.head = nn.Linear(12, 5)
        self.grouped.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.bn(self.act(self.stem(x)))
        x = self.act(self.grouped(x))
        x = self.depthwise(x)
        x = x + self.leaky(self.circular(x))
        x = self.reused(F.relu(self.reused(x)))
        self.dead(x)
        x = x + self.zero_fed(torch.zeros_like(x))
        pooled = self.head(x.mean((2, 3)))
        return {"aux": pooled, "out": self.decoder(x)}


def odd_loss(output: dict[str, Tensor], target: Tensor) -> Tensor:
    pooled = F.cross_entropy(output["aux"], target[:, 0, 0])
    return F.cross_entropy(output["out"], target) + 0.5 * pooled


class Plain(nn.Module):
    """Convolutions, batch normalisation, rectifiers, a linear head."""

    def __init__(self, width: int = 8, *, functional: bool = False) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.b = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.fc = nn.Linear(width, 4)
        self.act = F.relu if functional else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.a(x)))
        x = self.act(self.b(x))
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


class Residual(nn.Module):
    """A block that changes its input in place."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.dead = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(x)
        self.dead(x)
        out = self.bn(self.conv(x))
        return out + x if out.shape == x.shape else out


class Blocky(nn.Module):
    """Three blocks with a dead layer each, and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.ModuleList([Residual(6, 6, 1), Residual(6, 8, 2), Residual(8, 8, 1)])
        self.decoder = nn.Sequential(
            nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU()), nn.Upsample(scale_factor=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.decoder(x)
        return out


def blocky() -> Blocky:
    torch.manual_seed(3)
    return Blocky()


def odd(*, inplace: bool = True) -> Odd:
    torch.manual_seed(1)
    return Odd(inplace=inplace)


def plain(width: int = 8, seed: int = 1, **more: Any) -> Plain:
    torch.manual_seed(seed)
    return Plain(width, **more)


def maps(n_batches: int = 2, images: int = 3, side: int = 8, classes: int = 5) -> list[Batch]:
    """Images with a label for every pixel."""
    generator = torch.Generator().manual_seed(7)
    return [
        (
            torch.randn(images, 3, side, side, generator=generator),
            torch.randint(0, classes, (images, side, side), generator=generator),
        )
        for _ in range(n_batches)
    ]


def labels(n_batches: int = 2, images: int = 3, side: int = 8) -> list[Batch]:
    """Images with one label each."""
    return [(x, y[:, 0, 0] % 4) for x, y in maps(n_batches, images, side)]
