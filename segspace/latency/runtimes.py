"""The programs that run a network: torch eager and compiled, ONNX Runtime, OpenVINO, CUDA.

One interface, `Runtime`: a module and its inputs become a `Session`. A runtime that is not installed is an
error that names the extra, never another runtime.
"""

from __future__ import annotations

import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from proxygraph.errors import BackendUnavailable, ConfigError
from proxygraph.run import environment
from segspace.latency.clock import CLOCKS, Clock, ClockName

OPSET = 18
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


@dataclass(frozen=True)
class Session:
    """A module made ready on given inputs.

    Attributes
    ----------
    run : callable
        Runs it once and returns when it is done.
    outputs : callable
        Runs it once and returns what came out, float32 arrays.
    """

    run: Callable[[], Any]
    outputs: Callable[[], list[NDArray[np.float32]]]


class Runtime(ABC):
    """Something that runs modules; equal settings give equal latencies.

    Parameters
    ----------
    threads : int
        Threads of one run. With one, CPU time of the process is the clock: it contains all its threads, and
        none of these runtimes spins while it waits if it has one thread. With more it is wall time.
    dtype, layout : str
        Of the activations and weights; see ``dtypes`` and ``layouts``.

    Raises
    ------
    BackendUnavailable
        If the package or the device is missing.
    ConfigError
        If the runtime has no such dtype or layout.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    layouts: ClassVar[tuple[str, ...]] = ("nchw",)
    own_layout: ClassVar[bool] = True  # tensors between layers are laid out as it likes

    def __init__(self, threads: int = 1, dtype: str = "float32", layout: str = "nchw") -> None:
        if threads < 1:
            raise ConfigError(f"--threads {threads}: at least one is needed")
        for word, value, known in (("dtype", dtype, self.dtypes), ("layout", layout, self.layouts)):
            if value not in known:
                raise ConfigError(f"--{word} {value}: {self.name} has {', '.join(known)}")
        self.threads, self.dtype, self.layout = threads, dtype, layout
        self.start()

    @property
    def version(self) -> str:
        """Version of the package that runs the network, without a local part's build hash."""
        return version(self.package)

    @property
    def device(self) -> str:
        """Name of the device."""
        return str(environment(self.threads)["cpu"])

    @property
    def clock_name(self) -> ClockName:
        """``cpu`` for one thread, ``wall`` for more."""
        return "cpu" if self.threads == 1 else "wall"

    @property
    def clock(self) -> Clock:
        """The clock to time a session with."""
        return CLOCKS[self.clock_name]

    def start(self) -> None:  # noqa: B027 (most need nothing)
        """Look for the package and the device, set the number of threads."""

    @abstractmethod
    def session(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Session:
        """Make a module (in eval mode; float32 inputs (N, C, H, W)) ready to run."""


class Eager(Runtime):
    """torch as it is."""

    name, package = "eager", "torch"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")
    layouts = ("nchw", "nhwc")
    own_layout = False

    def start(self) -> None:
        torch.set_num_threads(self.threads)

    def session(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Session:
        dtype, layout = DTYPES[self.dtype], LAYOUTS[self.layout]
        module = module.eval().to(self._device, dtype)
        module = module.to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's annotation
        given = [value.to(self._device, dtype, memory_format=layout) for value in inputs]
        call = self._callable(module, given)

        def run() -> Any:
            with torch.inference_mode():
                out = call(*given)
            self._wait()
            return out

        return Session(run, lambda: [value.float().cpu().numpy() for value in _tuple(run())])

    _device = "cpu"

    def _callable(self, module: nn.Module, given: list[Tensor]) -> Callable[..., Any]:
        return module

    def _wait(self) -> None:
        pass


class Compiled(Eager):
    """torch.compile, default mode; needs a C++ compiler and seconds per module."""

    name = "compile"

    def session(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Session:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch about itself
            session = super().session(module, inputs)
            try:
                session.run()
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = str(error).strip().partition("\n")[0]
                raise BackendUnavailable(
                    f"runtime 'compile': torch.compile failed: {reason}; is there a C++ compiler?"
                ) from None
        return session

    def _callable(self, module: nn.Module, given: list[Tensor]) -> Callable[..., Any]:
        # exported first, so that it has code of its own: of modules that share a forward, torch.compile
        # compiles only the first few and runs the others eagerly
        return torch.compile(torch.export.export(module, tuple(given)).module(), dynamic=False)


class Cuda(Eager):
    """torch eager on the first CUDA device; wall time with the device waited for."""

    name = "cuda"
    dtypes = ("float32", "float16", "bfloat16")
    _device = "cuda"

    def start(self) -> None:
        if not torch.cuda.is_available():
            raise BackendUnavailable(
                "runtime 'cuda': torch sees no CUDA device; use another --runtime, or a CUDA build of torch"
            )
        super().start()

    @property
    def device(self) -> str:
        return torch.cuda.get_device_name()

    @property
    def clock_name(self) -> ClockName:
        return "wall"

    def _wait(self) -> None:
        torch.cuda.synchronize()


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU, all graph optimisations."""

    name, package = "onnxruntime", "onnxruntime"

    def start(self) -> None:
        self._ort = _module("onnxruntime", self.name, "onnx")
        _module("onnx", self.name, "onnx")

    def session(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Session:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = self._ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = self._ort.InferenceSession(
            onnx_bytes(module, inputs), options, providers=["CPUExecutionProvider"]
        )
        feed = {one.name: inputs[_number(one.name)].numpy() for one in session.get_inputs()}

        def run() -> Any:
            return session.run(None, feed)

        return Session(run, run)


class OpenVino(Runtime):
    """OpenVINO on the CPU: one stream, latency hint, float32 arithmetic."""

    name, package = "openvino", "openvino"

    def start(self) -> None:
        self._openvino = _module("openvino", self.name, "openvino")
        _module("onnx", self.name, "onnx")

    def session(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Session:
        core = self._openvino.Core()
        model = core.read_model(io.BytesIO(onnx_bytes(module, inputs)))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        for one in model.inputs:
            array = np.ascontiguousarray(inputs[_number(one.any_name)].numpy())
            request.set_tensor(one.any_name, self._openvino.Tensor(array))

        def outputs() -> list[NDArray[np.float32]]:
            request.infer()
            return [np.array(one.data) for one in request.output_tensors]

        return Session(request.infer, outputs)


RUNTIMES: dict[str, type[Runtime]] = {one.name: one for one in (Eager, OnnxRuntime, OpenVino, Compiled, Cuda)}


def runtime(name: str, threads: int = 1, dtype: str = "float32", layout: str = "nchw") -> Runtime:
    """Return the runtime of this name.

    Raises
    ------
    ConfigError
        If there is none of that name, dtype or layout.
    BackendUnavailable
        If it is not installed here.
    """
    if name not in RUNTIMES:
        raise ConfigError(f"--runtime {name}: there are {', '.join(RUNTIMES)}")
    return RUNTIMES[name](threads, dtype, layout)


def onnx_bytes(module: nn.Module, inputs: tuple[Tensor, ...]) -> bytes:
    """Return a module as an ONNX file of fixed shapes.

    The exporter that traces is used: it takes 20 ms, the one over ``torch.export`` a second, and a table is
    made of hundreds of graphs. Inputs are named ``x0``, ``x1`` ...; one of which only the shape counts
    is left out.
    """
    file: Any = io.BytesIO()  # torch's annotation knows paths only
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the other exporter is the new one
        torch.onnx.export(
            module.eval(),
            inputs,
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[f"x{k}" for k in range(len(inputs))],
        )
    return bytes(file.getvalue())


def _number(name: str) -> int:
    return int(name.removeprefix("x"))


def _module(name: str, asked_by: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise BackendUnavailable(
            f"runtime {asked_by!r}: {name} cannot be imported ({error}); "
            f"install it with: pip install 'proxygraph[{extra}]'"
        ) from None


def _tuple(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
