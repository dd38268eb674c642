"""Data sets: pairs found, labels mapped, faulty files listed before anything starts, decoded ones kept."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from proxygraph.errors import ConfigError, UnknownName
from segspace.augment import Crops, random_window, stored_size
from segspace.datasets import IGNORED, Pictures, open_dataset
from segspace.datasets.opening import parse_size
from segspace.recipe import Recipe

# labelId -> trainId, typed from the table of cityscapesScripts (labels.py)
TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12}
TRAIN_IDS |= {26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}


def save(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def camvid_tree(folder: Path, n: int = 3, size: tuple[int, int] = (12, 16)) -> str:
    """Write a small data set in CamVid's layout and return the text that opens it."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for i in range(n):
            save(folder / split / f"{i}.png", rng.integers(0, 256, (*size, 3), np.uint8))
            save(folder / f"{split}annot" / f"{i}.png", rng.integers(0, 12, size, np.uint8))
    return f"camvid:{folder}"


def cityscapes_tree(folder: Path, labels: NDArray[np.uint8], n: int = 1) -> str:
    """Write a small official tree, n pictures per city, and return the text that opens it."""
    rng = np.random.default_rng(0)
    for split, city in (("train", "ulm"), ("train", "bonn"), ("val", "lindau")):
        for i in range(n):
            stem = f"{city}_{i:06}_000019"
            image = rng.integers(0, 256, (*labels.shape, 3), np.uint8)
            save(folder / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", image)
            save(folder / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", labels)
            save(folder / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png", labels)
    return f"cityscapes:{folder}"


def test_camvid_classes_and_void(tmp_path: Path) -> None:
    data = open_dataset(camvid_tree(tmp_path))
    assert len(data.classes) == len(data.palette) == 11
    assert "SegNet" in data.protocol
    assert list(data.splits) == ["train", "val"]
    source = data.split("val")
    for i in range(3):
        stored = np.asarray(Image.open(tmp_path / "valannot" / f"{i}.png"))
        labels = np.asarray(source.item(i)[1])
        assert np.array_equal(labels, np.where(stored == 11, IGNORED, stored))
        assert source.name(i) == str(i)
    with pytest.raises(ConfigError, match="no split 'test' here; there are train, val"):
        data.split("test")


def test_cityscapes_labels_are_mapped(tmp_path: Path) -> None:
    stored = np.append(np.arange(34), [255, 255]).astype(np.uint8).reshape(6, 6)
    data = open_dataset(cityscapes_tree(tmp_path, stored))
    assert [len(source) for source in data.splits.values()] == [2, 1]
    assert (len(data.classes), data.classes[0], data.classes[18]) == (19, "road", "bicycle")
    labels = np.asarray(data.split("val").item(0)[1])
    expected = [TRAIN_IDS.get(int(value), IGNORED) for value in stored.ravel()]
    assert labels.ravel().tolist() == expected


def test_every_faulty_file_is_listed(tmp_path: Path) -> None:
    text = camvid_tree(tmp_path)
    (tmp_path / "train" / "0.png").write_bytes(b"no image")
    save(tmp_path / "valannot" / "2.png", np.zeros((9, 16), np.uint8))
    whole = (tmp_path / "train" / "1.png").read_bytes()
    (tmp_path / "train" / "1.png").write_bytes(whole[:-20])
    (tmp_path / "val" / "3.png").write_bytes(whole)
    with pytest.raises(ConfigError, match="4 faulty files") as caught:
        open_dataset(text)
    for told in ("val/3.png: no label map", "train/0.png", "train/1.png", "valannot/2.png: 9x16"):
        assert told in str(caught.value)
    (tmp_path / "val" / "3.png").unlink()
    camvid_tree(tmp_path)
    save(tmp_path / "valannot" / "2.png", np.zeros((9, 16), np.uint8))
    with pytest.raises(ConfigError, match=r"valannot/2.png: 9x16, but its picture is 12x16"):
        open_dataset(text)
    camvid_tree(tmp_path)
    (tmp_path / "train" / "1.png").unlink()
    (tmp_path / "trainannot" / "2.png").unlink()
    with pytest.raises(ConfigError, match=r"2\.png: no label map trainannot/2.png; .*no picture train/1.png"):
        open_dataset(text)


def test_labels_without_meaning_are_listed_when_decoded(tmp_path: Path) -> None:
    text = camvid_tree(tmp_path)
    for name in ("1", "2"):
        save(tmp_path / "trainannot" / f"{name}.png", np.full((12, 16), 12, np.uint8))
    with pytest.raises(
        ConfigError, match=r"2 faulty files: .*1.png: label 12 has no meaning.*2.png: label 12"
    ):
        Pictures(open_dataset(text).split("train"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("camvid", "needs its folder"),
        ("camvid:/nowhere", "not a folder"),
        ("cityscapes:/nowhere", "leftImg8bit is not a folder"),
        ("streetscenes?train=0", "train=0"),
        ("streetscenes:64", "HEIGHTxWIDTH"),
        ("kitti:/x", "known: camvid:DIR"),
    ],
)
def test_wrong_texts_are_told(text: str, told: str) -> None:
    with pytest.raises((ConfigError, UnknownName), match=told):
        open_dataset(text)


def test_streetscenes_need_nothing() -> None:
    data = open_dataset("streetscenes:16x24?train=3&val=2")
    assert [len(source) for source in data.splits.values()] == [3, 2, 2]
    first, again = (Pictures(data.split("train"))[1] for _ in range(2))
    assert first[0].shape == (16, 24, 3)
    assert all(bool((a == b).all()) for a, b in zip(first, again, strict=True))
    assert not bool((first[0] == Pictures(data.split("val"))[1][0]).all())


def test_pictures_are_the_same_from_memory_and_from_files(tmp_path: Path) -> None:
    source = open_dataset(camvid_tree(tmp_path)).split("train")
    kept = Pictures(source, lambda native: (native[0] // 2, native[1] // 2))
    lazy = Pictures(source, lambda native: (native[0] // 2, native[1] // 2), memory=0)
    assert kept._kept is not None
    assert lazy._kept is None
    assert (kept[1][0].shape, kept[1][1].shape) == ((6, 8, 3), (12, 16))
    for i in range(3):
        assert all(bool((a == b).all()) for a, b in zip(kept[i], lazy[i], strict=True))


@settings(max_examples=40)
@given(st.data())
def test_windows_keep_picture_and_labels_together(data: st.DataObject) -> None:
    """Labels painted into the picture are found again in the window, and padding is ignored."""
    numbers = st.integers(1, 40)
    stored, size, crop = (data.draw(st.tuples(numbers, numbers)) for _ in range(3))
    low, high = sorted(data.draw(st.tuples(st.floats(0.3, 3), st.floats(0.3, 3))))
    recipe = Recipe(size=size, crop=crop, scale=(low, high))
    label = data.draw(st.integers(0, 200))
    labels = np.full(stored, label, np.uint8)
    picture = np.repeat(labels[..., None], 3, 2)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    window, classes = random_window(picture, labels, recipe, rng)
    assert window.shape == (*crop, 3)
    assert set(np.unique(classes)) <= {label, IGNORED}
    inside = classes != IGNORED
    assert inside.any()
    assert (window[inside] == label).all()
    if low * min(size) > 1 and all(low * s >= c + 1 for s, c in zip(size, crop, strict=True)):
        assert inside.all()


def test_windows_show_what_the_scale_says() -> None:
    """At scale 1 and full size the window is the picture; at scale 2 it is a quarter of it."""
    rows, columns = np.mgrid[0:32, 0:48].astype(np.uint8)
    picture = np.stack([rows, columns, columns], -1)
    plain = Recipe(size=(32, 48), scale=(1.0, 1.0), flip=False)
    window, classes = random_window(picture, columns, plain, np.random.default_rng(0))
    assert np.array_equal(window, picture)
    assert np.array_equal(classes, columns)
    larger = Recipe(size=(32, 48), scale=(2.0, 2.0), flip=False)
    window, _ = random_window(picture, columns, larger, np.random.default_rng(0))
    assert np.ptp(window[..., 0]) == pytest.approx(16, abs=1.01)
    assert np.ptp(window[..., 1]) == pytest.approx(24, abs=1.01)


def test_items_depend_on_seed_epoch_and_number_alone() -> None:
    recipe = Recipe(size=(16, 24))
    stored = stored_size(recipe)
    pictures = Pictures(open_dataset("streetscenes:32x48?train=3&val=1").split("train"), stored, stored)
    assert pictures[0][0].shape == (24, 36, 3)
    crops = Crops(pictures, recipe, 5)
    first = crops[0, 1]
    crops[0, 2]
    assert all(bool((a == b).all()) for a, b in zip(first, crops[0, 1], strict=True))
    assert not bool((first[0] == crops[1, 1][0]).all())
    assert not bool((first[0] == Crops(pictures, recipe, 6)[0, 1][0]).all())


def test_sizes() -> None:
    assert parse_size("120x160") == (120, 160)
    for text in ("120", "0x5", "axb", "12x-3", "1x2x3", " 1x2"):
        with pytest.raises(ConfigError, match="HEIGHTxWIDTH"):
            parse_size(text)


def test_camvid_itself(data_dir: Path) -> None:
    folder = data_dir / "camvid"
    if not folder.is_dir():
        pytest.skip("no CamVid among the test data")
    data = open_dataset(f"camvid:{folder}")
    assert (len(data.split("train")), len(data.split("val"))) == (367, 101)
    image, labels = data.split("val").item(7)
    assert image.size == labels.size == (480, 360)
    assert set(np.unique(np.asarray(labels))) <= {*range(11), IGNORED}
