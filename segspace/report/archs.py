"""An arch of the space ``rtseg`` drawn: layers from left to right, a band per resolution, fused by the head.

``python -m segspace.report.archs ARCH --out FILE.svg`` (or ``.png``) makes a picture for other documents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from proxygraph.command import run_command
from proxygraph.errors import BackendUnavailable, ConfigError, StorageError
from segspace.options import Classes, Size

if TYPE_CHECKING:
    from markupsafe import Markup

    from segspace.rtseg.arch import Arch
    from segspace.rtseg.program import Program, Step

NAMES: Final[Mapping[str, str]] = {
    "skip": "skip",
    "conv3x3": "conv",
    "2xconv3x3": "2×conv",
    "zoomed": "zoom",
    "2xzoomed": "2×zoom",
    "ir": "ir",
}
"""What is written on a layer."""
KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "skip": ("skip", "skip: 1×1 convolution"),
    "conv": ("conv3x3 2xconv3x3", "conv: 3×3 convolution, one or two"),
    "zoom": ("zoomed 2xzoomed", "zoom: these at half the resolution"),
    "ir": ("ir", "ir: inverted residual"),
    "ends": ("fuse classifier resize", "stem, head: as in all networks"),
}
"""By colour: operators, and what the key says of them."""
_WIDTH, _HEIGHT, _ACROSS, _LANE, _PAD = 52.0, 52.0, 64.0, 66.0, 12.0
_LEFT, _TOP, _ROUND = 36.0, 12.0, 6.0
_IN: Final = {"stem": "convolutions of stride 2 to 1/8", "head": "fusion, convolution, classifier, resizing"}
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """One drawn step; `x`, `y` is its centre, `share` what it takes of the whole, `node` names it."""

    node: str
    kind: str
    lines: tuple[str, str, str]
    title: str
    x: float
    y: float
    share: float


@dataclass(frozen=True)
class Drawing:
    """A network laid out: boxes, lines with right angles, bands (name, top, bottom), words at both ends."""

    boxes: tuple[Box, ...]
    edges: tuple[tuple[Point, ...], ...]
    bands: tuple[tuple[str, float, float], ...]
    words: tuple[tuple[str, float, float], ...]
    width: float
    height: float


def kind_of(step: Step) -> str:
    """Return the key in `KINDS` of a step."""
    if step.name.startswith(("stem", "head")):
        return "ends"
    return next(kind for kind, (ops, _) in KINDS.items() if step.piece.op in ops.split())


def node_of(step: Step) -> str:
    """Return the name of the box of a step: stem and head, equal in all networks, have one each."""
    part, _ = step.name.split(".")
    return part if part in ("stem", "head") else step.name


def drawing(arch: Arch, steps: Program, shares: Sequence[float] | None = None) -> Drawing:
    """Lay out a network.

    Parameters
    ----------
    arch : Arch
    steps : Program
        Of the arch, at some size.
    shares : sequence of float, optional
        What every step takes of the whole, in [0, 1]; by default its share of the multiply-accumulates.
    """
    if shares is None:
        shares = [step.piece.macs / steps.macs for step in steps.steps]
    places, lanes = _places(arch)
    tops, top = {}, _TOP  # above the first band there are words
    for level in sorted(lanes):
        tops[level] = top
        top += lanes[level] * _LANE + _PAD
    boxes: dict[str, Box] = {}
    for step, share in zip(steps.steps, shares, strict=True):
        node = node_of(step)
        column, level, lane = places[node]
        x = _LEFT + _ACROSS * (column + 0.5)
        y = tops[level] + _PAD / 2 + _LANE * (lane + 0.5)
        share += boxes[node].share if node in boxes else 0.0
        lines = (NAMES.get(step.piece.op, node), f"{step.piece.c_out} ch", f"{100 * share:.0f} %")
        title = f"{step.name}: {step.piece.text()}, {100 * share:.1f} %"
        if node in ("stem", "head"):
            convolutions = arch.preset.stem if node == "stem" else (arch.preset.head,)
            lines = (node, f"{convolutions[-1]} ch", lines[2])
            title = f"{node}: {_IN[node]}, {100 * share:.1f} %"
        boxes[node] = Box(node, kind_of(step), lines, title, x, y, share)
    bands = tuple((f"1/{8 << k}", tops[k], tops[k] + n * _LANE + _PAD) for k, n in lanes.items())
    first, last = boxes["stem"], boxes["head"]
    (_, size), out = steps.steps[-1].piece.sizes, steps.steps[-1].piece.c_out
    words = (
        (f"{size[0]}×{size[1]}", first.x, first.y - _HEIGHT / 2 - 5),
        (f"{out} classes", last.x, last.y - _HEIGHT / 2 - 5),
    )
    width = last.x + _WIDTH / 2 + 8
    return Drawing(tuple(boxes.values()), tuple(_edges(arch, boxes)), bands, words, width, top)


def _places(arch: Arch) -> tuple[dict[str, tuple[int, int, int]], dict[int, int]]:
    """Return column, halvings below 1/8 and lane of every box; and how many lanes each resolution has."""
    trunk, deep, detail = arch.paths
    places = {"stem": (0, 0, 0)}
    split = 0
    ends = []
    for name, path, start in (("trunk", trunk, 1), ("deep", deep, 0), ("detail", detail, 0)):
        level = 0 if name == "trunk" else split
        for k, layer in enumerate(path):
            level += layer.down
            places[f"{name}.{k}"] = (start + k + (0 if name == "trunk" else 1 + len(trunk)), level, 0)
        if name == "trunk":
            split = level
        ends.append(level)
    column = 1 + len(trunk) + max(len(deep), len(detail))
    places["head"] = (column, ends[2], 0)
    lanes = dict.fromkeys(range(ends[1] + 1), 1)
    for k in range(len(deep)):  # detail's line goes on to the head where deep may still have layers
        column, level, _ = places[f"deep.{k}"]
        if level <= ends[2]:
            places[f"deep.{k}"] = (column, level, 1)
            lanes[level] = 2
    return places, lanes


def _edges(arch: Arch, boxes: Mapping[str, Box]) -> list[tuple[Point, ...]]:
    """Return the lines between boxes; deep comes into the head from below."""
    trunk = ["stem", *(f"trunk.{k}" for k in range(len(arch.trunk)))]
    deep = [trunk[-1], *(f"deep.{k}" for k in range(len(arch.deep)))]
    detail = [trunk[-1], *(f"detail.{k}" for k in range(len(arch.detail))), "head"]
    edges: list[tuple[Point, ...]] = []
    for path in (trunk, deep, detail):
        for one, other in pairwise(path):
            a, b = boxes[one], boxes[other]
            right, left = a.x + _WIDTH / 2, b.x - _WIDTH / 2
            bend = right + (_ACROSS - _WIDTH) / 2
            edges.append(((right, a.y), (bend, a.y), (bend, b.y), (left, b.y)))
    a, b = boxes[deep[-1]], boxes["head"]
    edges.append(((a.x + _WIDTH / 2, a.y), (b.x, a.y), (b.x, b.y + _HEIGHT / 2)))
    return edges


# ---- as SVG ------------------------------------------------------------------------------------------------


def arch_markup(drawn: Drawing, name: str, **attributes: str) -> Markup:
    """Return the SVG element for a page that has the style of ``arch.css``."""
    from proxygraph.report.svg import short, tag

    marks = []
    for k, (band, top, bottom) in enumerate(drawn.bands):
        shade = f"band{' odd' if k % 2 else ''}"
        marks.append(
            tag("rect", x=0.0, y=top, width=drawn.width, height=bottom - top, class_=f"scale {shade}")
        )
        marks.append(tag("text", band, x=8.0, y=(top + bottom) / 2 + 4, class_="scale"))
    marks += [tag("path", d=_rounded(points), class_="edge") for points in drawn.edges]
    most = max(box.share for box in drawn.boxes) or 1.0
    for box in drawn.boxes:
        left, top = box.x - _WIDTH / 2, box.y - _HEIGHT / 2
        bar = max(0.0, (_WIDTH - 12) * box.share / most)
        parts = (
            tag("title", box.title),
            tag("rect", x=left, y=top, width=_WIDTH, height=_HEIGHT, rx=5.0, class_="box"),
            tag("text", box.lines[0], x=box.x, y=top + 14.5, class_="middle"),
            tag("text", box.lines[1], x=box.x, y=top + 27, class_="small middle"),
            tag("text", box.lines[2], x=box.x, y=top + 38.5, class_="small middle"),
            tag("rect", x=left + 6, y=top + _HEIGHT - 7, width=bar, height=3.0, class_="share"),
        )
        marks.append(tag("g", *parts, data_node=box.node, class_=f"node op-{box.kind}"))
    marks += [tag("text", text, x=x, y=y, class_="small middle") for text, x, y in drawn.words]
    width, height = short(drawn.width), short(drawn.height)
    return tag(
        "svg",
        *marks,
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=name,
        class_="graph arch",
        **attributes,
    )


def arch_svg(text: str, size: tuple[int, int] = (120, 160), classes: int = 11) -> str:
    """Return a picture of an arch as an SVG document that follows the light or dark setting.

    Parameters
    ----------
    text : str
        Such as ``rtseg:tiny:c2-C2z3D4-i1``.
    size : (int, int)
        Height and width of the image: shares of the multiply-accumulates depend on it, a little.
    classes : int

    Raises
    ------
    ConfigError
        If it is no arch of the space.
    BackendUnavailable
        If the extra ``report`` is not installed.
    """
    from proxygraph.report.page import asset, check_packages

    check_packages()
    from markupsafe import Markup

    drawn = _drawn(text, size, classes)
    style = asset("colours.css") + asset("arch.css", "segspace.report")
    svg = arch_markup(drawn, name_of(text), xmlns="http://www.w3.org/2000/svg")
    start, end, rest = svg.partition(">")
    return str(start + end + Markup("<style>{}</style>").format(Markup(style)) + rest + Markup("\n"))


def name_of(text: str) -> str:
    """Return in words what a drawing shows."""
    from segspace.rtseg.arch import Arch

    arch = Arch.parse(text)
    trunk, deep, detail = (len(path) for path in arch.paths)
    coarse, fine = arch.scales
    return (
        f"Network {text}: stem to 1/8, trunk of {trunk} layers, deep branch of {deep} to 1/{coarse}, "
        f"detail branch of {detail} to 1/{fine}, head"
    )


def _drawn(text: str, size: tuple[int, int], classes: int) -> Drawing:
    from segspace.rtseg.arch import Arch
    from segspace.rtseg.program import program

    arch = Arch.parse(text)
    return drawing(arch, program(arch, size, classes))


def _rounded(points: Sequence[Point]) -> str:
    """Return a path with round corners."""
    from proxygraph.report.svg import short

    kept = [p for k, p in enumerate(points) if k in (0, len(points) - 1) or not _straight(points, k)]
    parts = [f"M{short(kept[0][0])} {short(kept[0][1])}"]
    for before, (x, y), after in zip(kept, kept[1:], kept[2:], strict=False):
        (ax, ay), (bx, by) = (_towards((x, y), other) for other in (before, after))
        parts.append(f"L{short(ax)} {short(ay)}Q{short(x)} {short(y)} {short(bx)} {short(by)}")
    return "".join(parts) + f"L{short(kept[-1][0])} {short(kept[-1][1])}"


def _straight(points: Sequence[Point], k: int) -> bool:
    (ax, ay), (bx, by), (cx, cy) = points[k - 1 : k + 2]
    return ax == bx == cx or ay == by == cy


def _towards(corner: Point, other: Point) -> Point:
    """Return the point where a round corner begins."""
    (x, y), (ox, oy) = corner, other
    far = abs(ox - x) + abs(oy - y)
    part = min(_ROUND, far / 2) / far if far else 0.0
    return x + part * (ox - x), y + part * (oy - y)


# ---- as PNG ------------------------------------------------------------------------------------------------


def write_png(text: str, path: Path, size: tuple[int, int] = (120, 160), classes: int = 11) -> None:
    """Draw an arch into a PNG file, in light colours (needs matplotlib).

    Raises
    ------
    ConfigError
        If it is no arch of the space.
    BackendUnavailable
        If matplotlib is missing.
    StorageError
        If the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyBboxPatch, Rectangle
    except ImportError:
        raise BackendUnavailable(
            "a picture needs matplotlib, which is not installed: pip install 'proxygraph[report]'"
        ) from None
    drawn = _drawn(text, size, classes)
    colour = _colours()
    figure = Figure(figsize=(drawn.width / 72, drawn.height / 72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawn.width), ylim=(drawn.height, 0))
    axes.set_axis_off()
    for k, (band, top, bottom) in enumerate(drawn.bands):
        fill = colour["shade"] if k % 2 else colour["card"]
        axes.add_patch(Rectangle((0, top), drawn.width, bottom - top, color=fill, lw=0))
        axes.text(8, (top + bottom) / 2, band, size=9, color=colour["soft"], va="center")
    for points in drawn.edges:
        axes.plot(*zip(*points, strict=True), color=colour["faint"], lw=1.2, solid_joinstyle="round")
    most = max(box.share for box in drawn.boxes) or 1.0
    for box in drawn.boxes:
        left, top = box.x - _WIDTH / 2, box.y - _HEIGHT / 2
        stroke, fill = (colour[name] for name in _OF_KIND[box.kind])
        shape: Any = FancyBboxPatch(
            (left + 4, top + 4), _WIDTH - 8, _HEIGHT - 8, boxstyle="round,pad=4", fc=fill, ec=stroke, lw=1.2
        )
        shape.set_zorder(2)
        axes.add_patch(shape)
        for line, down, points_, name in zip(box.lines, (11, 24, 35.5), (8.5, 7, 7), _INKS, strict=True):
            axes.text(box.x, top + down, line, size=points_, color=colour[name], ha="center", va="center")
        bar = max(0.0, (_WIDTH - 12) * box.share / most)
        axes.add_patch(Rectangle((left + 6, top + _HEIGHT - 7), bar, 3, color=stroke, lw=0, zorder=3))
    for word, x, y in drawn.words:
        axes.text(x, y, word, size=6.8, color=colour["soft"], ha="center")
    try:
        figure.savefig(path, dpi=144, facecolor=colour["card"])
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: the picture cannot be written: {error}") from None


_INKS: Final = ("ink", "soft", "soft")
_OF_KIND: Final = {
    "skip": ("faint", "shade"),
    "conv": ("element", "element-fill"),
    "zoom": ("activation", "activation-fill"),
    "ir": ("layer", "layer-fill"),
    "ends": ("row", "row-fill"),
}


def _colours() -> dict[str, str]:
    """Return the colours of the pages by name, those of light mode."""
    from proxygraph.report.page import asset

    light, _, _ = asset("colours.css").partition("@media")
    return dict(re.findall(r"--([\w-]+): (#\w+)", light))


def draw(
    arch: Annotated[
        str,
        typer.Argument(metavar="ARCH", help="Network of the space rtseg, rtseg:PRESET:TRUNK-DEEP-DETAIL."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .svg or .png file to write.")],
    size: Size = "120x160",
    classes: Classes = 11,
) -> None:
    """Draw a network: operator and width of every layer, resolutions, shares of the multiply-accumulates.

    Example: python -m segspace.report.archs rtseg:tiny:c2-C2z3D4-i1 --out network.svg
    """
    from proxygraph.run import RunFolder
    from segspace.datasets.opening import parse_size

    pixels = parse_size(size)
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    if out.suffix == ".svg":
        RunFolder(out.parent).write(out.name, arch_svg(arch, pixels, classes))
    elif out.suffix == ".png":
        write_png(arch, out, pixels, classes)
    else:
        raise ConfigError(f"--out {out}: expected a file that ends in .svg or .png")
    print(out)


def main() -> None:
    """Run the command."""
    run_command(draw, "python -m segspace.report.archs")


if __name__ == "__main__":
    main()
