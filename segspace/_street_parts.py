"""The things of a street scene and the painter that puts them into a map of part numbers.

A part is one outline of one colour on one plane. What a part's pixels look like, and the ground and the sky
behind all parts, is the business of ``segspace.streetscenes``. Lengths are metres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

FAR: Final = 150.0
"""What is farther than this is sky."""
SMOOTH, WALL, GROUND, LEAVES, CLOTH, NO_TEXTURE = range(6)
"""Materials."""

Colour: TypeAlias = tuple[float, float, float]
Point: TypeAlias = tuple[float, float, float]


class Label(IntEnum):
    """The classes of pixels."""

    SKY = 0
    BUILDING = 1
    ROAD = 2
    LANE_MARK = 3
    PAVEMENT = 4
    TERRAIN = 5
    TREE = 6
    POLE = 7
    SIGN = 8
    CAR = 9
    PERSON = 10


@dataclass(frozen=True, slots=True)
class Street:
    """What is drawn once per scene: camera, course of the street, light. Lengths in metres."""

    focal: float  # in image heights, as are horizon and heading
    eye: float  # height of the camera
    horizon: float
    heading: float
    bend: float  # curvature, 1/m
    offset: float  # of the camera from the road's middle
    half_road: float
    pavements: tuple[float, float]  # widths, left and right
    crossing: tuple[float, float]  # begin and end of the side road, beyond FAR if there is none
    light: tuple[float, float, float]  # on walls facing right, facing left, facing the camera

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Street:
        half_road = float(rng.uniform(2.5, 5.6))
        begin = float(rng.uniform(9, 32)) if rng.random() < 0.45 else 2 * FAR
        left, right, front = rng.uniform(0.6, 1.05, 3).tolist()
        return cls(
            focal=float(rng.uniform(0.7, 1.1)),
            eye=float(rng.uniform(1.3, 2.4)),
            horizon=float(rng.uniform(0.36, 0.54)),
            heading=float(rng.normal(0, 0.12)),
            bend=float(rng.normal(0, 0.006)),
            offset=float(rng.uniform(-0.85, 0.85) * half_road),
            half_road=half_road,
            pavements=(float(rng.uniform(1.4, 5.5)), float(rng.uniform(1.4, 5.5))),
            crossing=(begin, begin + float(rng.uniform(6, 11))),
            light=(left, right, front),
        )

    def middle(self, z: float) -> float:
        """Return where the road's middle is at depth z, from the camera's axis."""
        return self.bend * z * z / 2 - self.offset

    def edge(self, side: int) -> float:
        """Return how far the outer edge of a pavement is from the road's middle; side -1 or 1."""
        return self.half_road + self.pavements[(side + 1) // 2]


@dataclass
class Painter:
    """The map of part numbers under the brush, and one row per part. Part 0 is what nobody painted."""

    street: Street
    height: int
    width: int
    labels: list[int] = field(default_factory=lambda: [Label.SKY])
    colours: list[Colour] = field(default_factory=lambda: [(0.0, 0.0, 0.0)])
    materials: list[int] = field(default_factory=lambda: [NO_TEXTURE])
    planes: list[tuple[float, ...]] = field(default_factory=lambda: [(1.0, 0.0, -1.0, 0.0, 1.0)])
    floors: list[float] = field(default_factory=lambda: [0.0])

    def __post_init__(self) -> None:
        self.image = Image.new("I", (self.width, self.height), 0)
        self.draw = ImageDraw.Draw(self.image)
        self.shade = Image.new("L", (self.width, self.height), 0)
        self.shade_draw = ImageDraw.Draw(self.shade)

    def pixels(self, points: Iterable[Point]) -> list[tuple[float, float]]:
        """Return where points (x from the road's middle, height, depth) fall, in pixels."""
        s, n = self.street, self.height
        left, top, eye = s.heading * n + 0.5 * self.width - 0.5, s.horizon * n - 0.5, s.eye
        found, last, scale, middle = [], 0.0, 0.0, 0.0
        for x, y, z in points:
            if z != last:
                last, scale, middle = z, s.focal * n / z, s.middle(z)
            found.append((left + (x + middle) * scale, top + (eye - y) * scale))
        return found

    def part(
        self, label: int, colour: Sequence[float], material: int, outline: Sequence[Point], floor: float = 0.0
    ) -> None:
        """Paint an outline on the plane that faces the camera at its first point's depth."""
        x, _, z = outline[0]
        x += self.street.middle(z)
        self._add(label, colour, material, outline, floor, (1.0, 0.0, -z, x, z))

    def wall(
        self, label: int, colour: Sequence[float], material: int, outline: Sequence[Point], floor: float
    ) -> None:
        """Paint an outline on the upright plane through its first two points."""
        (x0, _, z0), (x1, _, z1) = outline[:2]
        x0, x1 = x0 + self.street.middle(z0), x1 + self.street.middle(z1)
        dx, dz = x1 - x0, z1 - z0
        self._add(label, colour, material, outline, floor, (dx, dz, x0 * dz - z0 * dx, x0, z0))

    def _add(
        self,
        label: int,
        colour: Sequence[float],
        material: int,
        outline: Sequence[Point],
        floor: float,
        plane: tuple[float, ...],
    ) -> None:
        self.planes.append(plane)
        self.labels.append(label)
        self.colours.append((colour[0], colour[1], colour[2]))
        self.materials.append(material)
        self.floors.append(floor)
        self.draw.polygon(self.pixels(outline), fill=len(self.labels) - 1)

    def shadow(self, x: float, z: float, half_x: float, half_z: float, *, depth: int = 130) -> None:
        """Darken an ellipse of the ground."""
        outline = [(x + half_x * cos, 0.0, max(1.5, z + half_z * sin)) for cos, sin in _corners(10, 0.0)]
        self.shade_draw.polygon(self.pixels(outline), fill=depth)


@cache
def _corners(n: int, first: float) -> tuple[tuple[float, float], ...]:
    """Return (cos, sin) of the corners of a polygon, the first one at a share of a step."""
    turns = [(k + first) * math.tau / n for k in range(n)]
    return tuple((math.cos(turn), math.sin(turn)) for turn in turns)


def _times(colour: Sequence[float], factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def _rect(x: float, y: float, z: float, width: float, height: float) -> list[Point]:
    return [(x, y, z), (x + width, y, z), (x + width, y + height, z), (x, y + height, z)]


def _disc(x: float, y: float, z: float, rx: float, ry: float, corners: int = 8) -> list[Point]:
    return [(x + rx * cos, y + ry * sin, z) for cos, sin in _corners(corners, 0.5)]


def _any_colour(rng: np.random.Generator) -> Colour:
    """Return a colour of paint, cloth or plaster: mostly greys and muted tones, sometimes vivid."""
    value, vivid = rng.uniform(0.08, 0.95), rng.uniform(0, 0.55) ** 1.5
    r, g, b = (value * (1 - vivid * rng.random(3))).tolist()
    return (r, g, b)


_WALL_TONES: Final = (
    (0.55, 0.32, 0.25),
    (0.72, 0.66, 0.55),
    (0.55, 0.55, 0.56),
    (0.42, 0.38, 0.34),
    (0.6, 0.66, 0.72),
    (0.75, 0.72, 0.68),
    (0.38, 0.42, 0.36),
)
_LEAF_TONES: Final = (
    (0.24, 0.38, 0.12),
    (0.32, 0.42, 0.16),
    (0.16, 0.30, 0.13),
    (0.48, 0.36, 0.14),
    (0.35, 0.36, 0.20),
)


def wall_colour(rng: np.random.Generator) -> Colour:
    """Return a colour of brick, stone or plaster."""
    tone = np.array(_WALL_TONES[rng.integers(len(_WALL_TONES))]) * rng.uniform(0.6, 1.2) + rng.normal(
        0, 0.04, 3
    )
    r, g, b = np.clip(tone, 0.05, 1).tolist()
    return (r, g, b)


def leaf_colour(rng: np.random.Generator) -> Colour:
    """Return a colour of leaves or grass, fresh or dry."""
    tone = np.array(_LEAF_TONES[rng.integers(len(_LEAF_TONES))]) * rng.uniform(0.7, 1.3)
    r, g, b = tone.tolist()
    return (r, g, b)


def _building(p: Painter, rng: np.random.Generator, side: int, x: float, z0: float, z1: float) -> None:
    """Paint one house: the wall along the street and the one that faces the camera."""
    colour, tall, floor = wall_colour(rng), float(rng.uniform(4, 22)), float(rng.uniform(2.6, 3.6))
    near, far = side * x, side * (x + rng.uniform(6, 16))
    light = p.street.light
    front = [(near, 0.0, z0), (far, 0.0, z0), (far, tall, z0), (near, tall, z0)]
    p.part(Label.BUILDING, _times(colour, light[2]), WALL, front, floor=floor)
    along = [(near, 0.0, z0), (near, 0.0, z1), (near, tall, z1), (near, tall, z0)]
    p.wall(Label.BUILDING, _times(colour, light[(side + 1) // 2]), WALL, along, floor)


def _tree(p: Painter, rng: np.random.Generator, x: float, z: float) -> None:
    trunk, size = float(rng.uniform(1.2, 3.2)), float(rng.uniform(1.0, 2.8))
    bark, leaf = _times((0.36, 0.30, 0.24), rng.uniform(0.5, 1.2)), leaf_colour(rng)
    wide, conic = float(rng.uniform(0.12, 0.3)), rng.random() < 0.25
    p.part(Label.TREE, bark, CLOTH, _rect(x - wide / 2, 0, z, wide, trunk + size))
    for a, r, s, shade in rng.random((11, 4))[: 11 if z < 30 else 5].tolist():
        angle, reach = a * math.tau, 0.75 * size * math.sqrt(r)
        up = trunk + size + reach * math.sin(angle) * 1.1
        squeeze = max(0.15, 1.2 - 0.55 * (up - trunk) / size) if conic else 1.0
        across, radius = x + squeeze * reach * math.cos(angle), size * squeeze * (0.25 + 0.3 * s)
        blob = _disc(across, up, z, radius, radius, 7)
        p.part(Label.TREE, _times(leaf, 0.7 + 0.25 * shade + 0.2 * math.sin(angle)), LEAVES, blob)
    p.shadow(x, z, size * 1.3, size * 1.3, depth=90)


def _pole(p: Painter, rng: np.random.Generator, side: int, x: float, z: float) -> None:
    """Paint a lamp post, a sign on its post or a traffic light."""
    grey, wide, kind = (
        _times((0.5, 0.5, 0.5), rng.uniform(0.3, 1.5)),
        float(rng.uniform(0.12, 0.24)),
        rng.random(),
    )
    tall = float(rng.uniform(4.5, 8.0)) if kind < 0.45 else float(rng.uniform(2.1, 3.4))
    p.part(Label.POLE, grey, SMOOTH, _rect(x - wide / 2, 0, z, wide, tall))
    if kind < 0.45:
        p.part(Label.POLE, grey, SMOOTH, _rect(min(x, x - side * 1.6), tall - wide, z, 1.6, wide))
    elif kind < 0.85:
        colours = (
            (0.75, 0.1, 0.1),
            (0.15, 0.25, 0.65),
            (0.85, 0.7, 0.1),
            (0.2, 0.45, 0.25),
            (0.85, 0.85, 0.85),
        )
        colour, size = colours[rng.integers(5)], float(rng.uniform(0.32, 0.6))
        corners, ratio = int(rng.choice((3, 4, 8, 12))), float(rng.uniform(0.8, 1.5))
        p.part(Label.SIGN, colour, SMOOTH, _disc(x, tall, z, size * 1.15, size * 1.15 * ratio, corners))
        p.part(
            Label.SIGN, _any_colour(rng), SMOOTH, _disc(x, tall, z, 0.6 * size, 0.6 * size * ratio, corners)
        )
    else:
        p.part(Label.SIGN, (0.12, 0.12, 0.1), SMOOTH, _rect(x - 0.28, tall - 0.5, z, 0.56, 1.4))
        lamp = int(rng.integers(3))
        lit = ((0.2, 0.9, 0.4), (0.95, 0.7, 0.1), (0.95, 0.15, 0.1))[lamp]
        p.part(Label.SIGN, lit, SMOOTH, _disc(x, tall - 0.25 + 0.42 * lamp, z, 0.18, 0.18))


def _person(p: Painter, rng: np.random.Generator, x: float, z: float) -> None:
    tall, stride = float(rng.uniform(1.5, 1.95)), float(rng.uniform(0.0, 0.3))
    wide, light = float(rng.uniform(0.4, 0.62)), p.street.light[2]
    legs, body = _times(_any_colour(rng), light), _times(_any_colour(rng), light)
    skin = _times((0.8, 0.62, 0.5), rng.uniform(0.35, 1.1) * light)
    hip, neck = 0.48 * tall, 0.83 * tall
    for way in (-1, 1):
        foot = x + way * stride
        leg = [
            (x - 0.2 * wide, hip, z),
            (x + 0.2 * wide, hip, z),
            (foot + 0.09, 0.0, z),
            (foot - 0.09, 0.0, z),
        ]
        p.part(Label.PERSON, legs, CLOTH, leg)
    sides = ((-0.42, hip), (0.42, hip), (0.5, 0.75 * tall), (0.28, neck), (-0.28, neck), (-0.5, 0.75 * tall))
    p.part(Label.PERSON, body, CLOTH, [(x + a * wide, y, z) for a, y in sides])
    p.part(Label.PERSON, skin, SMOOTH, _disc(x, 0.91 * tall, z, 0.075 * tall, 0.09 * tall))
    p.shadow(x, z, 0.5, 0.4, depth=80)


_WHEEL_TURNS: Final = (0, 0.8, 1.6, 2.4, 3.1, 4, 4.7, 5.5)


def _car(p: Painter, rng: np.random.Generator, x: float, z: float) -> None:
    """Paint a car that stands along the street: the side seen from the camera, the back, the cabin."""
    paint, glass = _any_colour(rng), _times((0.3, 0.34, 0.38), rng.uniform(0.4, 1.5))
    half, length = float(rng.uniform(0.82, 1.0)), float(rng.uniform(3.6, 4.8))
    waist, tall = float(rng.uniform(0.85, 1.05)), float(rng.uniform(1.4, 1.75))
    if rng.random() < 0.2:  # a van or a bus
        half, length, waist, tall = 1.1, float(rng.uniform(5, 9)), 1.3, float(rng.uniform(2.1, 3.0))
    flank = 1 if x + p.street.middle(z) < 0 else -1  # the side turned to the camera
    lit = p.street.light[0 if flank > 0 else 1]
    a, b, end, near = x - half, x + half, z + length, x + flank * half
    inset, slope = 0.85 * half, 0.16 * length
    p.shadow(x, z + length / 2, half * 1.25, length * 0.6, depth=190)

    def paint_over(colour: Colour, outline: list[Point]) -> None:
        p.part(Label.CAR, colour, SMOOTH, outline)

    paint_over(_times(paint, 1.1), [(a, waist, z), (b, waist, z), (b, waist, end), (a, waist, end)])
    flank_low = [(near, 0.28, z), (near, 0.28, end)]
    paint_over(_times(paint, 0.85 * lit), [*flank_low, (near, waist, end), (near, waist, z)])
    top, front, rear = x + flank * inset, end - 2 * slope, z + 0.5
    sill = [(near, waist, z + 0.2), (near, waist, end - slope)]
    paint_over(_times(glass, lit), [*sill, (top, tall, front), (top, tall, rear)])
    left, right = x - inset, x + inset
    roof = [(left, tall, rear), (right, tall, rear), (right, tall, front), (left, tall, front)]
    paint_over(_times(paint, 1.15), roof)
    for axle in (z + 0.17 * length, z + 0.8 * length):
        wheel = [(near, 0.34 + 0.34 * math.sin(turn), axle + 0.34 * math.cos(turn)) for turn in _WHEEL_TURNS]
        paint_over((0.06, 0.06, 0.07), wheel)
    back = p.street.light[2]
    for tyre in (a + 0.05, b - 0.3):
        paint_over((0.05, 0.05, 0.05), _rect(tyre, 0, z, 0.25, 0.4))
    paint_over(_times(paint, back), _rect(a, 0.28, z, 2 * half, waist - 0.28))
    sill = [(a + 0.06, waist, z), (b - 0.06, waist, z)]
    paint_over(_times(glass, back), [*sill, (right, tall, z + 0.4), (left, tall, z + 0.4)])
    lamp = (0.7, 0.1, 0.08) if rng.random() < 0.6 else (0.95, 0.93, 0.8)
    for at in (a + 0.06, b - 0.36):
        paint_over(lamp, _rect(at, 0.65 * waist, z, 0.3, 0.16))


def _skyline(p: Painter, rng: np.random.Generator) -> None:
    """Paint what closes the street far away."""
    reach, z = 150.0, 0.93 * FAR
    cuts = np.sort(rng.uniform(-reach, reach, 12)).tolist()
    middle = p.street.middle(z)
    for x0, x1 in zip([-2 * reach, *cuts], [*cuts, 2 * reach], strict=True):
        tall, light = float(rng.uniform(3, 24)), p.street.light[2]
        house = rng.random() < 0.6
        colour = _times(wall_colour(rng), light) if house else leaf_colour(rng)
        outline = _rect(x0 - middle, -1.0, z, x1 - x0, (tall if house else 0.5 * tall) + 1.0)
        p.part(
            Label.BUILDING if house else Label.TREE,
            colour,
            WALL if house else LEAVES,
            outline,
            floor=3.0 if house else 0.0,
        )


def _side_things(
    rng: np.random.Generator, s: Street, side: int
) -> list[tuple[float, str, int, float, float]]:
    """Return (depth to sort by, kind, side, distance from the middle, begin) of what stands on one side."""
    things: list[tuple[float, str, int, float, float]] = []
    edge, begin, end = s.edge(side), *s.crossing
    urban, setback = float(rng.uniform(0.2, 1.0)), float(max(0.0, rng.normal(2.5, 3.0)))
    z = 1.6
    while z < 120:
        stop = z + float(rng.uniform(6, 20))
        if z < begin < stop:
            stop = begin
        if begin <= z < end:
            z = end
            continue
        if rng.random() < urban:
            things.append((stop, "building", side, edge + setback, z))
        else:
            for x, at in rng.uniform((0.8, z), (9.0, stop), (int(rng.integers(1, 5)), 2)).tolist():
                things.append((max(at, 4.0), "tree", side, edge + x, at))
        z = stop + float(rng.exponential(2.0) if rng.random() < 0.4 else 0.0)
    pole_gap, tree_gap, car_gap = rng.uniform(6, 16), rng.uniform(6, 14), rng.uniform(5.5, 9)
    for kind, gap, share, x, first in (
        ("pole", pole_gap, 0.85, s.half_road + 0.45, 4.0),
        ("tree", tree_gap, float(rng.choice((0.0, 0.7))), s.half_road + 0.9, 5.0),
        ("car", car_gap, float(rng.choice((0.0, 0.35, 0.8))), s.half_road - 1.15, 3.5),
    ):
        for at in np.arange(first + rng.uniform(0, gap), 50, gap).tolist():
            if rng.random() < share and not begin - 1 < at < end:
                things.append((at, kind, side, x + float(rng.normal(0, 0.12)), at))
    for at, x in zip(
        (4 + rng.exponential(9, rng.poisson(4.5))).tolist(), rng.random(40).tolist(), strict=False
    ):
        things.append((at, "person", side, s.half_road + 0.3 + x * (edge - s.half_road - 0.4), at))
    return things


def populate(p: Painter, rng: np.random.Generator) -> None:
    """Paint everything that stands on the ground, far to near."""
    s = p.street
    _skyline(p, rng)
    things = _side_things(rng, s, -1) + _side_things(rng, s, 1)
    for at, x in rng.uniform((6, 0.25), (60, 0.6), (int(rng.integers(0, 4)), 2)).tolist():
        side = -1 if rng.random() < 0.5 else 1
        things.append((at, "car", side, x * s.half_road, at))
    for at, x in zip(
        (4.5 + rng.exponential(6, rng.poisson(1.2))).tolist(), rng.random(40).tolist(), strict=False
    ):
        things.append((at, "person", 1, (2 * x - 1) * s.half_road, at))
    things.sort(key=lambda thing: -thing[0])
    for depth, kind, side, x, begin in things:
        if kind == "building":
            _building(p, rng, side, x, begin, depth)
        elif kind == "tree":
            _tree(p, rng, side * x, depth)
        elif kind == "pole":
            _pole(p, rng, side, side * x, depth)
        elif kind == "car":
            _car(p, rng, side * x, depth)
        else:
            _person(p, rng, side * x, depth)
