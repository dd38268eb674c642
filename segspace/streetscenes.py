"""Labelled street scenes made by a program: a seed in, an image and its label map out.

A pinhole camera looks along a street. Parts (quads and outlines in metres) are painted far to near into
a map of part numbers; every pixel then gets its point in the world from the part's plane, and from that
texture, light, haze and label. Knows nothing of networks or training; needs numpy and pillow only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from proxygraph.errors import ConfigError

VERSION: Final = 1
"""Version of the pictures: the same seed gives the same scene as long as it stays."""
CLASSES: Final = (
    "sky", "building", "road", "lane_mark", "pavement", "terrain", "tree", "pole", "sign", "car", "person",
)  # fmt: skip
PALETTE: Final = (
    (70, 130, 180), (90, 90, 90), (128, 64, 128), (255, 255, 255), (244, 35, 232), (152, 251, 152), (60, 120, 30),
    (190, 190, 110), (250, 170, 30), (0, 0, 180), (220, 20, 60),
)  # fmt: skip
"""Colour of each class in drawn label maps."""
SKY, BUILDING, ROAD, LANE_MARK, PAVEMENT, TERRAIN, TREE, POLE, SIGN, CAR, PERSON = range(len(CLASSES))
MEAN: Final = 0.42
STD: Final = 0.22
"""What ``batch`` subtracts from and divides values in [0, 1] by, the same for every colour channel."""

_FAR = 150.0  # metres; what is farther is sky
# Material: amplitude and size in metres of fine grain, then of patches.
_SMOOTH, _WALL, _GROUND, _LEAVES, _CLOTH, _SKYISH = range(6)
_TEXTURE = np.array(
    [(0.06, 0.1, 0.1, 1.0), (0.22, 0.22, 0.25, 2.5), (0.26, 0.08, 0.25, 1.6),
     (0.75, 0.16, 0.6, 0.7), (0.25, 0.08, 0.4, 0.3), (0.0, 1.0, 0.0, 1.0)],
    dtype=np.float32,
)  # fmt: skip

Colour: TypeAlias = tuple[float, float, float]
Point: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Street:
    """What is drawn once per scene: camera, course of the street, light. Lengths in metres."""

    focal: float  # in image heights, as are horizon and heading
    eye: float  # height of the camera
    horizon: float
    heading: float
    bend: float  # curvature, 1/m
    offset: float  # of the camera from the road's middle
    half_road: float
    pavements: tuple[float, float]  # widths, left and right
    crossing: tuple[float, float]  # begin and end of the side road, beyond _FAR if there is none
    light: tuple[float, float, float]  # on walls facing right, facing left, facing the camera

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> _Street:
        half_road = float(rng.uniform(2.5, 5.6))
        begin = float(rng.uniform(9, 32)) if rng.random() < 0.45 else 2 * _FAR
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
class _Painter:
    """The map of part numbers under the brush, and one row per part. Part 0 is what nobody painted."""

    street: _Street
    height: int
    width: int
    labels: list[int] = field(default_factory=lambda: [SKY])
    colours: list[Colour] = field(default_factory=lambda: [(0.0, 0.0, 0.0)])
    materials: list[int] = field(default_factory=lambda: [_SKYISH])
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
        self, label: int, colour: Sequence[float], material: int, points: Sequence[Point],
        wall: tuple[float, float, float, float] | None = None, floor: float = 0.0,
    ) -> None:  # fmt: skip
        """Paint one outline; ``wall`` is its plane as two ground points, else it faces the camera."""
        s = self.street
        x0, z0, x1, z1 = wall if wall else (points[0][0], points[0][2], points[0][0] + 1, points[0][2])
        x0, x1 = x0 + s.middle(z0), x1 + s.middle(z1)
        dx, dz = (x1 - x0, z1 - z0) if wall else (1.0, 0.0)
        self.planes.append((dx, dz, x0 * dz - z0 * dx, x0, z0))
        self.labels.append(label)
        self.colours.append((colour[0], colour[1], colour[2]))
        self.materials.append(material)
        self.floors.append(floor)
        self.draw.polygon(self.pixels(points), fill=len(self.labels) - 1)

    def shadow(self, x: float, z: float, half_x: float, half_z: float, *, depth: int = 130) -> None:
        """Darken an ellipse of the ground."""
        turns = [k * math.tau / 10 for k in range(10)]
        outline = [(x + half_x * math.cos(t), 0.0, max(1.5, z + half_z * math.sin(t))) for t in turns]
        self.shade_draw.polygon(self.pixels(outline), fill=depth)


def _times(colour: Sequence[float], factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def _rect(x: float, y: float, z: float, width: float, height: float) -> list[Point]:
    return [(x, y, z), (x + width, y, z), (x + width, y + height, z), (x, y + height, z)]


def _disc(x: float, y: float, z: float, rx: float, ry: float, corners: int = 8) -> list[Point]:
    turns = [(k + 0.5) * math.tau / corners for k in range(corners)]
    return [(x + rx * math.cos(t), y + ry * math.sin(t), z) for t in turns]


def _any_colour(rng: np.random.Generator) -> Colour:
    """Return a colour of paint, cloth or plaster: mostly greys and muted tones, sometimes vivid."""
    value, vivid = rng.uniform(0.08, 0.95), rng.uniform(0, 0.55) ** 1.5
    r, g, b = (value * (1 - vivid * rng.random(3))).tolist()
    return (r, g, b)


def _wall_colour(rng: np.random.Generator) -> Colour:
    tones = ((0.55, 0.32, 0.25), (0.72, 0.66, 0.55), (0.55, 0.55, 0.56), (0.42, 0.38, 0.34), (0.6, 0.66, 0.72),
             (0.75, 0.72, 0.68), (0.38, 0.42, 0.36))  # fmt: skip
    tone = np.array(tones[rng.integers(len(tones))]) * rng.uniform(0.6, 1.2) + rng.normal(0, 0.04, 3)
    r, g, b = np.clip(tone, 0.05, 1).tolist()
    return (r, g, b)


def _leaf_colour(rng: np.random.Generator) -> Colour:
    tones = ((0.24, 0.38, 0.12), (0.32, 0.42, 0.16), (0.16, 0.30, 0.13), (0.48, 0.36, 0.14), (0.35, 0.36, 0.20))
    r, g, b = (np.array(tones[rng.integers(len(tones))]) * rng.uniform(0.7, 1.3)).tolist()
    return (r, g, b)


def _building(p: _Painter, rng: np.random.Generator, side: int, x: float, z0: float, z1: float) -> None:
    """Paint one house: the wall along the street and the one that faces the camera."""
    colour, tall, floor = _wall_colour(rng), float(rng.uniform(4, 22)), float(rng.uniform(2.6, 3.6))
    near, far = side * x, side * (x + rng.uniform(6, 16))
    light = p.street.light
    front = [(near, 0.0, z0), (far, 0.0, z0), (far, tall, z0), (near, tall, z0)]
    p.part(BUILDING, _times(colour, light[2]), _WALL, front, floor=floor)
    along = [(near, 0.0, z0), (near, 0.0, z1), (near, tall, z1), (near, tall, z0)]
    p.part(BUILDING, _times(colour, light[(side + 1) // 2]), _WALL, along, (near, z0, near, z1), floor)


def _tree(p: _Painter, rng: np.random.Generator, x: float, z: float) -> None:
    trunk, size = float(rng.uniform(1.2, 3.2)), float(rng.uniform(1.0, 2.8))
    bark, leaf = _times((0.36, 0.30, 0.24), rng.uniform(0.5, 1.2)), _leaf_colour(rng)
    wide, conic = float(rng.uniform(0.12, 0.3)), rng.random() < 0.25
    p.part(TREE, bark, _CLOTH, _rect(x - wide / 2, 0, z, wide, trunk + size))
    for a, r, s, shade in rng.random((11, 4))[: 11 if z < 30 else 5].tolist():
        angle, reach = a * math.tau, 0.75 * size * math.sqrt(r)
        up = trunk + size + reach * math.sin(angle) * 1.1
        squeeze = max(0.15, 1.2 - 0.55 * (up - trunk) / size) if conic else 1.0
        blob = _disc(x + squeeze * reach * math.cos(angle), up, z, *([size * squeeze * (0.25 + 0.3 * s)] * 2), 7)
        p.part(TREE, _times(leaf, 0.7 + 0.25 * shade + 0.2 * math.sin(angle)), _LEAVES, blob)
    p.shadow(x, z, size * 1.3, size * 1.3, depth=90)


def _pole(p: _Painter, rng: np.random.Generator, side: int, x: float, z: float) -> None:
    """Paint a lamp post, a sign on its post or a traffic light."""
    grey, wide, kind = _times((0.5, 0.5, 0.5), rng.uniform(0.3, 1.5)), float(rng.uniform(0.12, 0.24)), rng.random()
    tall = float(rng.uniform(4.5, 8.0)) if kind < 0.45 else float(rng.uniform(2.1, 3.4))
    p.part(POLE, grey, _SMOOTH, _rect(x - wide / 2, 0, z, wide, tall))
    if kind < 0.45:
        p.part(POLE, grey, _SMOOTH, _rect(min(x, x - side * 1.6), tall - wide, z, 1.6, wide))
    elif kind < 0.85:
        colours = ((0.75, 0.1, 0.1), (0.15, 0.25, 0.65), (0.85, 0.7, 0.1), (0.2, 0.45, 0.25), (0.85, 0.85, 0.85))
        colour, size = colours[rng.integers(5)], float(rng.uniform(0.32, 0.6))
        corners, ratio = int(rng.choice((3, 4, 8, 12))), float(rng.uniform(0.8, 1.5))
        p.part(SIGN, colour, _SMOOTH, _disc(x, tall, z, size * 1.15, size * 1.15 * ratio, corners))
        p.part(SIGN, _any_colour(rng), _SMOOTH, _disc(x, tall, z, 0.6 * size, 0.6 * size * ratio, corners))
    else:
        p.part(SIGN, (0.12, 0.12, 0.1), _SMOOTH, _rect(x - 0.28, tall - 0.5, z, 0.56, 1.4))
        lamp = int(rng.integers(3))
        lit = ((0.2, 0.9, 0.4), (0.95, 0.7, 0.1), (0.95, 0.15, 0.1))[lamp]
        p.part(SIGN, lit, _SMOOTH, _disc(x, tall - 0.25 + 0.42 * lamp, z, 0.18, 0.18))


def _person(p: _Painter, rng: np.random.Generator, x: float, z: float) -> None:
    tall, stride = float(rng.uniform(1.5, 1.95)), float(rng.uniform(0.0, 0.3))
    wide, light = float(rng.uniform(0.4, 0.62)), p.street.light[2]
    legs, body = _times(_any_colour(rng), light), _times(_any_colour(rng), light)
    skin = _times((0.8, 0.62, 0.5), rng.uniform(0.35, 1.1) * light)
    hip, neck = 0.48 * tall, 0.83 * tall
    for way in (-1, 1):
        foot = x + way * stride
        leg = [(x - 0.2 * wide, hip, z), (x + 0.2 * wide, hip, z), (foot + 0.09, 0.0, z), (foot - 0.09, 0.0, z)]
        p.part(PERSON, legs, _CLOTH, leg)
    sides = ((-0.42, hip), (0.42, hip), (0.5, 0.75 * tall), (0.28, neck), (-0.28, neck), (-0.5, 0.75 * tall))
    p.part(PERSON, body, _CLOTH, [(x + a * wide, y, z) for a, y in sides])
    p.part(PERSON, skin, _SMOOTH, _disc(x, 0.91 * tall, z, 0.075 * tall, 0.09 * tall))
    p.shadow(x, z, 0.5, 0.4, depth=80)


def _car(p: _Painter, rng: np.random.Generator, x: float, z: float) -> None:
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
    p.part(CAR, _times(paint, 1.1), _SMOOTH, [(a, waist, z), (b, waist, z), (b, waist, end), (a, waist, end)])
    p.part(CAR, _times(paint, 0.85 * lit), _SMOOTH,
           [(near, 0.28, z), (near, 0.28, end), (near, waist, end), (near, waist, z)])  # fmt: skip
    top = x + flank * inset
    p.part(CAR, _times(glass, lit), _SMOOTH,
           [(near, waist, z + 0.2), (near, waist, end - slope), (top, tall, end - 2 * slope), (top, tall, z + 0.5)],
           )  # fmt: skip
    roof = [(x - inset, tall, z + 0.5), (x + inset, tall, z + 0.5), (x + inset, tall, end - 2 * slope)]
    p.part(CAR, _times(paint, 1.15), _SMOOTH, [*roof, (x - inset, tall, end - 2 * slope)])
    for at in (0.17, 0.8):
        zc = z + at * length
        wheel = [(near, 0.34 + 0.34 * math.sin(t), zc + 0.34 * math.cos(t)) for t in (0, 0.8, 1.6, 2.4, 3.1, 4, 4.7, 5.5)]
        p.part(CAR, (0.06, 0.06, 0.07), _SMOOTH, wheel)
    back = p.street.light[2]
    for tyre in (a + 0.05, b - 0.3):
        p.part(CAR, (0.05, 0.05, 0.05), _SMOOTH, _rect(tyre, 0, z, 0.25, 0.4))
    p.part(CAR, _times(paint, back), _SMOOTH, _rect(a, 0.28, z, 2 * half, waist - 0.28))
    window = [(a + 0.06, waist, z), (b - 0.06, waist, z), (x + inset, tall, z + 0.4), (x - inset, tall, z + 0.4)]
    p.part(CAR, _times(glass, back), _SMOOTH, window)
    lamp = (0.7, 0.1, 0.08) if rng.random() < 0.6 else (0.95, 0.93, 0.8)
    for at in (a + 0.06, b - 0.36):
        p.part(CAR, lamp, _SMOOTH, _rect(at, 0.65 * waist, z, 0.3, 0.16))


def _skyline(p: _Painter, rng: np.random.Generator) -> None:
    """Paint what closes the street far away."""
    reach, z = 150.0, 0.93 * _FAR
    cuts = np.sort(rng.uniform(-reach, reach, 12)).tolist()
    middle = p.street.middle(z)
    for x0, x1 in zip([-2 * reach, *cuts], [*cuts, 2 * reach], strict=True):
        tall, light = float(rng.uniform(3, 24)), p.street.light[2]
        house = rng.random() < 0.6
        colour = _times(_wall_colour(rng), light) if house else _leaf_colour(rng)
        outline = _rect(x0 - middle, -1.0, z, x1 - x0, (tall if house else 0.5 * tall) + 1.0)
        p.part(BUILDING if house else TREE, colour, _WALL if house else _LEAVES, outline, floor=3.0 if house else 0.0)


def _side_things(rng: np.random.Generator, s: _Street, side: int) -> list[tuple[float, str, int, float, float]]:
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
    for at, x in zip((4 + rng.exponential(9, rng.poisson(4.5))).tolist(), rng.random(40).tolist(), strict=False):
        things.append((at, "person", side, s.half_road + 0.3 + x * (edge - s.half_road - 0.4), at))
    return things


def _populate(p: _Painter, rng: np.random.Generator) -> None:
    """Paint everything that stands on the ground, far to near."""
    s = p.street
    _skyline(p, rng)
    things = _side_things(rng, s, -1) + _side_things(rng, s, 1)
    for at, x in rng.uniform((6, 0.25), (60, 0.6), (int(rng.integers(0, 4)), 2)).tolist():
        side = -1 if rng.random() < 0.5 else 1
        things.append((at, "car", side, x * s.half_road, at))
    for at, x in zip((4.5 + rng.exponential(6, rng.poisson(1.2))).tolist(), rng.random(40).tolist(), strict=False):
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


def _ground_labels(rng: np.random.Generator, s: _Street, x: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the class of every point of the ground; x from the road's middle."""
    begin, end = s.crossing
    reach = np.abs(x)
    edge = np.where(x < 0, s.edge(-1) + 30.0 * (rng.random() < 0.3), s.edge(1) + 30.0 * (rng.random() < 0.3))
    labels = np.where(reach < edge, PAVEMENT, TERRAIN).astype(np.uint8)
    cross = (z > begin) & (z < end)
    labels[(reach < s.half_road) | cross] = ROAD
    wide, period, solid = rng.uniform(0.16, 0.34), rng.uniform(4, 9), rng.random() < 0.25
    stripe = rng.uniform(0.45, 0.75)
    marks = (reach < wide / 2 + 0.05) & (((z + 3 * rng.random()) % period < 0.5 * period) | solid)
    if rng.random() < 0.6:
        marks |= np.abs(reach - (s.half_road - 0.4)) < wide / 2
    if s.half_road > 4.5 and rng.random() < 0.8:
        marks |= (np.abs(reach - 0.5 * s.half_road) < wide / 2) & (z % period < 0.5 * period)
    at = begin - 4.2 if begin < _FAR else float(rng.uniform(4, 40))
    zebra = (z > at) & (z < at + 3.0)
    if rng.random() < 0.7:
        marks = np.where(zebra, x % (2 * stripe) < stripe, marks)
    labels[marks & (z < 45) & (reach < s.half_road - 0.2) & ~cross] = LANE_MARK
    return labels


def _smooth_noise(table: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return noise in [-0.5, 0.5] with one random value per unit square corner, interpolated; periodic."""
    mask = len(table) - 1
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = x - x0, y - y0
    i, j = x0.astype(np.int32) & mask, y0.astype(np.int32) & mask
    i1, j1 = (i + 1) & mask, (j + 1) & mask
    top = table[i, j] * (1 - fx) + table[i1, j] * fx
    low = table[i, j1] * (1 - fx) + table[i1, j1] * fx
    noise: NDArray[np.float32] = top * (1 - fy) + low * fy - np.float32(0.5)
    return noise


def _sky(
    rng: np.random.Generator, table: NDArray[np.float32], u: NDArray[np.float32], up: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the sky's colours at (across, height over the horizon) and the horizon's colour."""
    high, low = (np.array(c, np.float32) for c in (((0.28, 0.47, 0.78), (0.7, 0.8, 0.9)), ((0.62, 0.64, 0.68), (0.82, 0.83, 0.85)),
                                                   ((0.35, 0.38, 0.5), (0.9, 0.68, 0.5)))[rng.choice(3, p=(0.45, 0.35, 0.2))])  # fmt: skip
    rise = np.clip(up / 0.5, 0, 1)[..., None] ** 0.7
    colours = low * (1 - rise) + high * rise
    flat = 1 / (up + 0.12)
    cloud = _smooth_noise(table, u * flat * 1.3 + 9, flat * 1.3) + 0.5 * _smooth_noise(table, u * flat * 3 + 5, flat * 3)
    cover = np.clip((cloud + rng.uniform(-0.45, 0.3)) * 2.5, 0, 0.85)[..., None]
    white = np.float32(rng.uniform(0.6, 0.98))
    return (colours * (1 - cover) + white * cover).astype(np.float32), low.astype(np.float32)


def _windows(
    colours: NDArray[np.float32], table: NDArray[np.float32], s: NDArray[np.float32], t: NDArray[np.float32],
    floor: NDArray[np.float32], part: NDArray[np.int32], dim: float,
) -> None:  # fmt: skip
    """Paint windows onto wall pixels in place; (s, t) metres along the wall and above the street."""
    wide = floor * (0.55 + 0.5 * table[part & 127, 3])
    column, row = np.floor(s / wide), np.floor(t / floor)
    fs, ft = s / wide - column, t / floor - row
    share = 0.2 + 0.22 * table[part & 127, 7]
    street_level = row == 0
    side = np.where(street_level, 0.08, share)
    window = (fs > side) & (fs < 1 - side) & (ft > np.where(street_level, 0.05, 0.28)) & (ft < 0.82)
    pane = table[(column.astype(np.int32) + 5 * part) & 127, (row.astype(np.int32) + part) & 127]
    glass = np.stack([pane * 0.5, pane * 0.55 + 0.02, pane * 0.6 + 0.04], -1) * dim
    glass = np.where((pane > 0.9)[..., None], np.array([0.95, 0.85, 0.6], np.float32), glass)
    colours[window] = glass[window]


def _world(
    p: _Painter, part: NDArray[np.int32], u: NDArray[np.float32], v: NDArray[np.float32], ground: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return every pixel's depth and its two coordinates on its surface, in metres."""
    s = p.street
    ray = (u - s.heading) / s.focal  # (W,)
    down = (v - s.horizon) / s.focal  # (H,)
    dx, dz, c, px, pz = np.array(p.planes, np.float32)[part].transpose(2, 0, 1)
    bottom = dx - ray * dz
    z = np.where(np.abs(bottom) > 1e-6, -c / np.where(bottom == 0, 1, bottom), _FAR)
    z = np.where(ground, s.eye / np.maximum(down, 1e-4)[:, None], z)
    z = np.clip(z, 1.0, _FAR).astype(np.float32)
    x = ray * z
    along = ((x - px) * dx + (z - pz) * dz) / np.hypot(dx, dz)
    along = np.where(ground, x - (s.bend * z * z / 2 - s.offset), along)
    up = np.where(ground, z, s.eye - down[:, None] * z)
    return z, along.astype(np.float32), up.astype(np.float32)


def _ground_colours(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return one colour per class; only the ground's classes mean something."""
    colours = np.zeros((len(CLASSES), 3), np.float32)
    asphalt = rng.uniform(0.2, 0.52)
    colours[ROAD] = asphalt * np.array([1, 1, 1.03])
    colours[PAVEMENT] = (asphalt + rng.uniform(-0.02, 0.28)) * np.array([1.03, 1, 0.96])
    if rng.random() < 0.25:
        colours[PAVEMENT] = np.array(_wall_colour(rng)) * 0.85
    colours[LANE_MARK] = np.array((0.85, 0.85, 0.82) if rng.random() < 0.75 else (0.8, 0.66, 0.25))
    colours[TERRAIN] = np.array(_leaf_colour(rng)) * 1.15 if rng.random() < 0.75 else (0.45, 0.4, 0.32)
    return colours


def _textured(
    p: _Painter, rng: np.random.Generator, part: NDArray[np.int32], labels: NDArray[np.uint8],
    u: NDArray[np.float32], v: NDArray[np.float32], ground: NDArray[np.bool_], depth: NDArray[np.float32],
    along: NDArray[np.float32], up: NDArray[np.float32],
) -> NDArray[np.float32]:  # fmt: skip
    """Return the picture in [0, 1] before the camera: surfaces, texture, windows, shadows, sky, haze."""
    table = rng.random((128, 128), dtype=np.float32)
    floors = np.array(p.floors, np.float32)[part]
    surface = np.where(ground, _GROUND, np.array(p.materials)[part])
    surface = np.where(ground & (labels == TERRAIN), _LEAVES, surface)
    fine, grain, rough, patch = _TEXTURE[surface].transpose(2, 0, 1)
    colours = np.where(ground[..., None], _ground_colours(rng)[labels], np.array(p.colours, np.float32)[part])
    worn = _smooth_noise(table, along * 1.7, up * 1.7) + 0.5 - rng.uniform(0.2, 0.9)
    mark = labels == LANE_MARK
    colours[mark] *= 1 - 0.5 * np.clip(worn[mark], 0, 1)[:, None]
    lit = p.street.light[2]
    wall = floors > 0
    walls = colours[wall]
    _windows(walls, table, along[wall], up[wall], floors[wall], part[wall], lit)
    colours[wall] = walls
    footprint = depth / (p.street.focal * p.height)
    a, b = ((k / grain + 31 * part).astype(np.int32) & 127 for k in (along, up))
    texture = fine * np.clip(grain / footprint, 0.35, 1) * (table[a, b] - 0.5)
    texture += rough * _smooth_noise(table, along / patch + 17 * part, up / patch)
    dark = np.asarray(p.shade, np.float32) / 255 * rng.uniform(0.3, 0.9)
    if rng.random() < 0.5:  # the houses of one side keep the sun from the ground
        side, line = (-1 if rng.random() < 0.5 else 1), rng.uniform(-0.8, 1.0) * p.street.half_road
        dark = np.maximum(dark, np.where(side * along > line, rng.uniform(0.2, 0.55), 0))
    texture -= np.where(ground, dark, 0)
    colours *= (1 + texture)[..., None]
    height = np.maximum(p.street.horizon - v, 0)[:, None] + 0 * u
    sky, horizon = _sky(rng, table, u + 0 * height, height)
    thick = np.exp(-depth / rng.uniform(90, 500))[..., None]
    colours = colours * thick + horizon * (1 - thick)
    found: NDArray[np.float32] = np.where((labels == SKY)[..., None], sky, colours).astype(np.float32)
    return found


def _photographed(rng: np.random.Generator, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return what the camera makes of it: colour of the light, exposure, blur, noise."""
    warm, green = rng.normal(0, 0.06), rng.normal(0, 0.02)
    picture = picture * np.array([1 + warm, 1 + green, 1 - warm], np.float32) * np.float32(rng.uniform(0.7, 1.2))
    contrast, blur, noise = rng.uniform(0.85, 1.25), np.float32(rng.uniform(0.0, 0.22)), rng.uniform(0.003, 0.022)
    picture = (picture - 0.4) * np.float32(contrast) + 0.4
    edged = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    edged = edged[1:-1] * (1 - 2 * blur) + blur * (edged[:-2] + edged[2:])
    picture = edged[:, 1:-1] * (1 - 2 * blur) + blur * (edged[:, :-2] + edged[:, 2:])
    picture += np.float32(noise) * rng.standard_normal(picture.shape, dtype=np.float32)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def scene(seed: int, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return one street scene and its labels.

    Parameters
    ----------
    seed : int
        Not negative. The same seed shows the same street at every size; only the camera's noise differs.
        A wider picture sees more to the left and right.
    height, width : int
        Size in pixels, at least 8.

    Returns
    -------
    image : ndarray of uint8, shape (height, width, 3)
        RGB.
    labels : ndarray of uint8, shape (height, width)
        Indices of ``CLASSES``; every pixel has one.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """
    if seed < 0:
        raise ConfigError(f"scene seed {seed}: expected a number that is not negative")
    if min(height, width) < 8:
        raise ConfigError(f"scene size {height}x{width}: expected at least 8x8")
    layout, ground_rng, paint, camera = np.random.default_rng(seed).spawn(4)
    p = _Painter(_Street.drawn(layout), height, width)
    _populate(p, layout)
    part = np.asarray(p.image, np.int32)
    u = ((np.arange(width, dtype=np.float32) + 0.5) - 0.5 * width) / height
    v = (np.arange(height, dtype=np.float32) + 0.5) / height
    ground = (part == 0) & (v > p.street.horizon)[:, None]
    depth, along, up = _world(p, part, u, v, ground)
    labels = np.array(p.labels, np.uint8)[part]
    labels = np.where(ground, _ground_labels(ground_rng, p.street, along, depth), labels)
    picture = _textured(p, paint, part, labels, u, v, ground, depth, along, up)
    return _photographed(camera, picture), labels


def batch(seed: int, n: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return ``n`` scenes as arrays for a network.

    Parameters
    ----------
    seed : int
        Of the whole batch; the first scenes of a larger batch are those of a smaller one.
    n, height, width : int
        Number of scenes and their size.

    Returns
    -------
    images : ndarray of float32, shape (n, 3, height, width)
        ``(value / 255 - MEAN) / STD``.
    labels : ndarray of int64, shape (n, height, width)
        Indices of ``CLASSES``.
    """
    if n < 1 or seed < 0:
        raise ConfigError(f"batch of {n} scenes with seed {seed}: expected n >= 1 and seed >= 0")
    images = np.empty((n, 3, height, width), np.float32)
    labels = np.empty((n, height, width), np.int64)
    for k, child in enumerate(np.random.SeedSequence(seed).generate_state(n, np.uint64).tolist()):
        image, labels[k] = scene(child, height, width)
        images[k] = ((image.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)
    return images, labels
