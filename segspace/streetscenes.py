"""Labelled street scenes made by a program: a seed in, an image and its label map out.

A pinhole camera looks along a street. Parts (quads and outlines in metres) are painted far to near into
a map of part numbers; every pixel then gets its point in the world from its part's plane, and from that
texture, light, haze and label. Knows nothing of networks or training; needs numpy and pillow only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from proxygraph.errors import ConfigError
from segspace._street_parts import (
    FAR,
    GROUND,
    LEAVES,
    Label,
    Painter,
    Street,
    leaf_colour,
    populate,
    wall_colour,
)

VERSION: Final = 1
"""Version of the pictures: the same seed gives the same scene as long as it stays."""
CLASSES: Final = tuple(label.name.lower() for label in Label)
PALETTE: Final = (
    (70, 130, 180),
    (90, 90, 90),
    (128, 64, 128),
    (255, 255, 255),
    (244, 35, 232),
    (152, 251, 152),
    (60, 120, 30),
    (190, 190, 110),
    (250, 170, 30),
    (0, 0, 180),
    (220, 20, 60),
)
"""Colour of each class in drawn label maps."""

Floats: TypeAlias = NDArray[np.floating]
"""float32 in fact; numpy's types lose that on the way."""

# Per material, in the order of _street_parts: amplitude and size (metres) of fine grain, then of patches.
_TEXTURE: Final = np.array(
    [
        (0.06, 0.1, 0.1, 1.0),
        (0.22, 0.22, 0.25, 2.5),
        (0.26, 0.08, 0.25, 1.6),
        (0.75, 0.16, 0.6, 0.7),
        (0.25, 0.08, 0.4, 0.3),
        (0.0, 1.0, 0.0, 1.0),
    ],
    dtype=np.float32,
)
_SKIES: Final = (  # colour overhead and at the horizon: clear, overcast, low sun
    ((0.28, 0.47, 0.78), (0.7, 0.8, 0.9)),
    ((0.62, 0.64, 0.68), (0.82, 0.83, 0.85)),
    ((0.35, 0.38, 0.5), (0.9, 0.68, 0.5)),
)


@dataclass(frozen=True, slots=True)
class _View:
    """What the camera's pixels show; all arrays are (H, W) but ``across`` (W,) and ``down`` (H,).

    ``along`` and ``up`` are coordinates on the pixel's surface in metres: along a wall and above the street,
    or, on the ground, from the road's middle and away from the camera.
    """

    street: Street
    part: NDArray[np.int32]
    ground: NDArray[np.bool_]
    depth: Floats
    along: Floats
    up: Floats
    across: Floats  # in image heights, 0 in the middle
    down: Floats  # in image heights, 0 at the top

    @classmethod
    def of(cls, p: Painter) -> _View:
        """Return the view of what was painted."""
        s, part = p.street, np.asarray(p.image, np.int32)
        across = ((np.arange(p.width, dtype=np.float32) + 0.5) - 0.5 * p.width) / p.height
        down = (np.arange(p.height, dtype=np.float32) + 0.5) / p.height
        ground = (part == 0) & (down > s.horizon)[:, None]
        ray, fall = (across - s.heading) / s.focal, (down - s.horizon) / s.focal
        # A plane stands on the ground line through (px, pz) along (dx, dz); c is their cross product.
        dx, dz, c, px, pz = (column[part] for column in np.array(p.planes, np.float32).T.copy())
        bottom = dx - ray * dz
        depth = np.where(np.abs(bottom) > 1e-6, -c / np.where(bottom == 0, 1, bottom), FAR)
        depth = np.where(ground, s.eye / np.maximum(fall, 1e-4)[:, None], depth)
        depth = np.clip(depth, 1.0, FAR).astype(np.float32)
        x = ray * depth
        along = ((x - px) * dx + (depth - pz) * dz) / np.hypot(dx, dz)
        along = np.where(ground, x - (s.bend * depth * depth / 2 - s.offset), along).astype(np.float32)
        up = np.where(ground, depth, s.eye - fall[:, None] * depth).astype(np.float32)
        return cls(s, part, ground, depth, along, up, across, down)


def _ground_labels(rng: np.random.Generator, s: Street, x: Floats, z: Floats) -> NDArray[np.uint8]:
    """Return the class of every point of the ground; x from the road's middle."""
    begin, end = s.crossing
    reach = np.abs(x)
    left = s.edge(-1) + 30.0 * (rng.random() < 0.3)  # some pavements go on as a square
    right = s.edge(1) + 30.0 * (rng.random() < 0.3)
    labels = np.where(reach < np.where(x < 0, left, right), Label.PAVEMENT, Label.TERRAIN).astype(np.uint8)
    cross = (z > begin) & (z < end)
    labels[(reach < s.half_road) | cross] = Label.ROAD
    wide, period, solid = rng.uniform(0.16, 0.34), rng.uniform(4, 9), rng.random() < 0.25
    stripe = rng.uniform(0.45, 0.75)
    marks = (reach < wide / 2 + 0.05) & (((z + 3 * rng.random()) % period < 0.5 * period) | solid)
    if rng.random() < 0.6:
        marks |= np.abs(reach - (s.half_road - 0.4)) < wide / 2
    if s.half_road > 4.5 and rng.random() < 0.8:
        marks |= (np.abs(reach - 0.5 * s.half_road) < wide / 2) & (z % period < 0.5 * period)
    at = begin - 4.2 if begin < FAR else float(rng.uniform(4, 40))
    if rng.random() < 0.7:
        zebra = (z > at) & (z < at + 3.0)
        marks = np.where(zebra, x % (2 * stripe) < stripe, marks)
    labels[marks & (z < 45) & (reach < s.half_road - 0.2) & ~cross] = Label.LANE_MARK
    return labels


def _noise(table: Floats, x: Floats, y: Floats) -> Floats:
    """Return noise in [-0.5, 0.5]: a random value at every whole-numbered point, interpolated; periodic."""
    n, values = len(table), table.ravel()
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = x - x0, y - y0
    i, j = x0.astype(np.int32) & (n - 1), y0.astype(np.int32) & (n - 1)
    i1, j1 = ((i + 1) & (n - 1)) * n, (j + 1) & (n - 1)
    i *= n
    near = values.take(i + j) * (1 - fx) + values.take(i1 + j) * fx
    far = values.take(i + j1) * (1 - fx) + values.take(i1 + j1) * fx
    noise: Floats = near * (1 - fy) + far * fy - np.float32(0.5)
    return noise


def _grain(table: Floats, x: Floats, y: Floats, part: NDArray[np.int32]) -> Floats:
    """Return noise in [-0.5, 0.5] that is constant within unit squares, another one for each part."""
    n = len(table)
    i, j = ((at + 31 * part).astype(np.int32) & (n - 1) for at in (x, y))
    noise: Floats = table.ravel().take(i * n + j) - np.float32(0.5)
    return noise


def _sky(rng: np.random.Generator, table: Floats, across: Floats, height: Floats) -> tuple[Floats, Floats]:
    """Return the sky's colours at points (across, height over the horizon), and the horizon's colour."""
    high, low = (np.array(colour, np.float32) for colour in _SKIES[rng.choice(3, p=(0.45, 0.35, 0.2))])
    rise = np.clip(height / 0.5, 0, 1)[..., None] ** 0.7
    flat = 1 / (height + 0.12)
    cloud = _noise(table, across * flat * 1.3 + 9, flat * 1.3)
    cloud += 0.5 * _noise(table, across * flat * 3 + 5, flat * 3)
    cover = np.clip((cloud + rng.uniform(-0.45, 0.3)) * 2.5, 0, 0.85)[..., None]
    white = np.float32(rng.uniform(0.6, 0.98))
    colours = (low * (1 - rise) + high * rise) * (1 - cover) + white * cover
    return colours.astype(np.float32), low


def _add_windows(
    colours: Floats, table: Floats, s: Floats, t: Floats, floor: Floats, part: NDArray[np.int32], light: float
) -> None:
    """Paint windows onto wall points in place; (s, t) metres along the wall and above the street."""
    mask = len(table) - 1
    wide = floor * (0.55 + 0.5 * table[part & mask, 3])
    column, row = np.floor(s / wide), np.floor(t / floor)
    fs, ft = s / wide - column, t / floor - row
    shop = row == 0
    side = np.where(shop, 0.08, 0.2 + 0.22 * table[part & mask, 7])
    window = (fs > side) & (fs < 1 - side) & (ft > np.where(shop, 0.05, 0.28)) & (ft < 0.82)
    pane = table[(column.astype(np.int32) + 5 * part) & mask, (row.astype(np.int32) + part) & mask]
    glass = np.stack([pane * 0.5, pane * 0.55 + 0.02, pane * 0.6 + 0.04], -1) * light
    glass = np.where((pane > 0.9)[..., None], np.array([0.95, 0.85, 0.6], np.float32), glass)
    colours[window] = glass[window]


def _ground_colours(rng: np.random.Generator) -> Floats:
    """Return one colour per class; only those of the ground mean something."""
    colours = np.zeros((len(CLASSES), 3), np.float32)
    asphalt = rng.uniform(0.2, 0.52)
    colours[Label.ROAD] = asphalt * np.array([1, 1, 1.03])
    colours[Label.PAVEMENT] = (asphalt + rng.uniform(-0.02, 0.28)) * np.array([1.03, 1, 0.96])
    if rng.random() < 0.25:
        colours[Label.PAVEMENT] = np.array(wall_colour(rng)) * 0.85
    colours[Label.LANE_MARK] = np.array((0.85, 0.85, 0.82) if rng.random() < 0.75 else (0.8, 0.66, 0.25))
    colours[Label.TERRAIN] = np.array(leaf_colour(rng)) * 1.15 if rng.random() < 0.75 else (0.45, 0.4, 0.32)
    return colours


def _surfaces(
    p: Painter, rng: np.random.Generator, view: _View, labels: NDArray[np.uint8], table: Floats
) -> Floats:
    """Return the colours of walls, things and ground with their texture, windows and shadows."""
    part, ground, along, up = view.part, view.ground, view.along, view.up
    floors = np.array(p.floors, np.float32)[part]
    material = np.where(ground, GROUND, np.array(p.materials)[part])
    material = np.where(ground & (labels == Label.TERRAIN), LEAVES, material)
    fine, grain, rough, patch = (column[material] for column in _TEXTURE.T.copy())
    colours = np.array(p.colours, np.float32)[part]
    colours[ground] = _ground_colours(rng)[labels[ground]]
    mark, wear = labels == Label.LANE_MARK, 0.5 - rng.uniform(0.2, 0.9)
    worn = _noise(table, along[mark] * 1.7, up[mark] * 1.7) + wear
    colours[mark] *= 1 - 0.5 * np.clip(worn, 0, 1)[:, None]
    wall = floors > 0
    walls = colours[wall]
    _add_windows(walls, table, along[wall], up[wall], floors[wall], part[wall], view.street.light[2])
    colours[wall] = walls
    pixel = view.depth / (view.street.focal * p.height)  # its size on the surface, in metres
    texture = fine * np.clip(grain / pixel, 0.35, 1) * _grain(table, along / grain, up / grain, part)
    texture += rough * _noise(table, along / patch + 17 * part, up / patch)
    dark = np.asarray(p.shade, np.float32) / 255 * rng.uniform(0.3, 0.9)
    if rng.random() < 0.5:  # the houses of one side keep the sun from the ground
        side, line = (-1 if rng.random() < 0.5 else 1), rng.uniform(-0.8, 1.0) * view.street.half_road
        dark = np.maximum(dark, np.where(side * along > line, rng.uniform(0.2, 0.55), 0))
    colours *= (1 + texture - np.where(ground, dark, 0))[..., None]
    return colours


def _picture(p: Painter, rng: np.random.Generator, view: _View, labels: NDArray[np.uint8]) -> Floats:
    """Return what is before the camera, about 0 to 1: surfaces in the haze, and the sky."""
    table = rng.random((128, 128), dtype=np.float32)
    colours = _surfaces(p, rng, view, labels, table)
    free = labels == Label.SKY
    row, column = np.nonzero(free)
    height = np.maximum(view.street.horizon - view.down, 0)[row]
    sky, horizon = _sky(rng, table, view.across[column], height)
    clear = np.exp(-view.depth / rng.uniform(90, 500))[..., None]
    hazy: Floats = colours * clear + horizon * (1 - clear)
    hazy[free] = sky
    return hazy


def _photographed(rng: np.random.Generator, picture: Floats) -> NDArray[np.uint8]:
    """Return what the camera makes of it: colour of the light, exposure, contrast, blur, noise."""
    warm, green = rng.normal(0, 0.06), rng.normal(0, 0.02)
    picture = (
        picture * np.array([1 + warm, 1 + green, 1 - warm], np.float32) * np.float32(rng.uniform(0.7, 1.2))
    )
    contrast, blur, noise = (
        rng.uniform(0.85, 1.25),
        np.float32(rng.uniform(0.0, 0.22)),
        rng.uniform(0.003, 0.022),
    )
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
    p = Painter(Street.drawn(layout), height, width)
    populate(p, layout)
    view = _View.of(p)
    labels = np.array(p.labels, np.uint8)[view.part]
    labels = np.where(view.ground, _ground_labels(ground_rng, p.street, view.along, view.depth), labels)
    return _photographed(camera, _picture(p, paint, view, labels)), labels


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
        Every colour channel of every image has mean 0 and standard deviation 1, so that the exposure and
        the colour of the light, which tell nothing of the class, are gone.
    labels : ndarray of int64, shape (n, height, width)
        Indices of ``CLASSES``.
    """
    if n < 1 or seed < 0:
        raise ConfigError(f"batch of {n} scenes with seed {seed}: expected n >= 1 and seed >= 0")
    images = np.empty((n, 3, height, width), np.float32)
    labels = np.empty((n, height, width), np.int64)
    for k, child in enumerate(np.random.SeedSequence(seed).generate_state(n, np.uint64).tolist()):
        image, labels[k] = scene(child, height, width)
        channels = image.transpose(2, 0, 1).astype(np.float32)
        mean, spread = (moment(channels, axis=(1, 2), keepdims=True) for moment in (np.mean, np.std))
        images[k] = (channels - mean) / np.maximum(spread, 1.0)
    return images, labels
