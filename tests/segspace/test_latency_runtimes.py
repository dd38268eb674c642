"""What every runtime promises: torch's numbers, CPU time for one thread, a clear word if absent."""

import io
import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from proxygraph.errors import BackendUnavailable, ConfigError
from segspace.latency.context import Carrier, images_for
from segspace.latency.runtimes import RUNTIMES, Runtime, onnx_bytes, runtime
from segspace.latency.table import Setting
from segspace.rtseg.arch import Arch
from segspace.rtseg.network import build
from segspace.rtseg.pieces import Piece

ARCH = Arch.parse("rtseg:tiny:z1-Z2i3-s3")
PIECES = [
    "conv3x3:8>16:s2:9x13",
    "fuse:16+8>24:s1:4x5+8x10",
    "resize:5+3>5:s1:5x7+33x49",
    "conv3x3:3>8:s2:9x12",
]


@pytest.fixture(
    params=[pytest.param(n, marks=[pytest.mark.slow] if n == "compile" else []) for n in RUNTIMES]
)
def make(request: pytest.FixtureRequest) -> Callable[..., Runtime]:
    name = request.param
    try:
        runtime(name)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    return lambda *args, **more: runtime(name, *args, **more)


def expected(module: nn.Module, images: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    with torch.inference_mode():
        out = module.eval()(*images)
    return [one.numpy() for one in (out if isinstance(out, tuple) else (out,))]


def test_numbers_are_those_of_torch(make: Callable[..., Runtime]) -> None:
    network = build(ARCH, 5, seed=0).eval()
    image = (torch.rand(2, 3, 33, 49),)
    right = expected(network, image)
    session = make().session(network, image)
    for _ in range(2):
        (out,) = session.outputs()
        np.testing.assert_allclose(out, right[0], rtol=1e-3, atol=1e-4)
    session.run()


@pytest.mark.parametrize("text", PIECES)
@pytest.mark.parametrize("loaded", [True, False])
def test_a_piece_in_its_carrier_runs(make: Callable[..., Runtime], text: str, loaded: bool) -> None:
    piece, engine = Piece.parse(text), make()
    images = images_for(piece, 1)
    carrier = Carrier(piece, loaded=loaded, sinks=engine.own_layout).eval()
    right = expected(carrier, images)
    for out, wanted in zip(engine.session(carrier, images).outputs(), right, strict=True):
        np.testing.assert_allclose(out, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        *PIECES[:3],
        "skip:8>16:s1:9x12",
        "skip:8>16:s2:9x12",
        "2xconv3x3:8>16:s1:9x12",
        "zoomed:8>16:s1:9x12",
        "2xzoomed:8>16:s2:9x12",
        "ir:8>16:s2:9x12",
        "classifier:8>5:s1:9x12",
    ],
)
def test_openvino_computes_the_whole_piece_in_its_carrier(text: str) -> None:
    """What takes an end must not let it leave out what is not taken, as a strided 1 x 1 convolution does."""
    openvino = pytest.importorskip("openvino")

    def layers(module: nn.Module) -> Counter[tuple[str, str]]:
        core = openvino.Core()
        model = core.read_model(io.BytesIO(onnx_bytes(module, images)))
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        nodes = compiled.get_runtime_model().get_ordered_ops()
        kinds = ("Convolution", "GroupConvolution", "Interpolate", "Pooling")
        found = [(n.get_rt_info()["layerType"].astype(str), str(n.output(0).partial_shape)) for n in nodes]
        return Counter(one for one in found if one[0] in kinds)

    piece = Piece.parse(text)
    images = images_for(piece, 1)
    loaded, empty = (layers(Carrier(piece, loaded=yes, sinks=True)) for yes in (True, False))
    images = piece.inputs()
    alone = layers(piece.module())
    assert alone
    sinks = Counter({one: n for one, n in (loaded - empty).items() if one not in alone})
    assert loaded - empty - sinks == Counter({one: 3 * n for one, n in alone.items()})


def test_settings_and_clocks(make: Callable[..., Runtime]) -> None:
    one, two = make(), make(2)
    try:
        assert one.clock_name == ("wall" if one.name == "cuda" else "cpu")
        assert two.clock_name == "wall"
        settings = Setting.of(one), Setting.of(two)
        assert "threads 1 is now 2" in settings[0].difference(settings[1])
        assert settings[0].difference(Setting.of(make())) == ""
        assert all(vars(settings[0]).values())
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("name", ["eager", "onnxruntime"])
def test_wrong_settings_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"int4.*{name} has float32"):
        runtime(name, dtype="int4")
    with pytest.raises(ConfigError, match="--layout hwc"):
        runtime(name, layout="hwc")
    with pytest.raises(ConfigError, match="--threads 0"):
        runtime(name, threads=0)


def test_channels_last_and_bfloat16_give_the_same_within_their_precision() -> None:
    network, image = build(ARCH, 5, seed=0).eval(), (torch.rand(1, 3, 33, 49),)
    right = expected(network, image)[0]
    (out,) = runtime("eager", layout="nhwc").session(network, image).outputs()
    np.testing.assert_allclose(out, right, rtol=1e-3, atol=1e-4)
    (out,) = runtime("eager", dtype="bfloat16").session(network, image).outputs()
    assert 0 < np.abs(out - right).max() < 0.1 * np.abs(right).max()


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("onnxruntime", "onnxruntime", "onnx"),
        ("openvino", "openvino", "openvino"),
        ("openvino", "onnx", "onnx"),
    ],
)
def test_an_absent_runtime_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    if name == "openvino" and module == "onnx":
        pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendUnavailable, match=rf"{name}.*{module}.*proxygraph\[{extra}\]"):
        runtime(name)


def test_an_unknown_runtime_and_an_absent_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="tensorrt: there are eager, onnxruntime"):
        runtime("tensorrt")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="no CUDA device"):
        runtime("cuda")
