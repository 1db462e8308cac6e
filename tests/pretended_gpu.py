"""A pretended GPU: memory of the CPU that is labelled "cuda", with the rules that make mistakes visible.

It answers for `device` and moves tensors, refuses operations that mix devices, notes what makes the host wait
for the device and which products run outside of the precision context, and records a CUDA graph as a list of
operations that replay repeats on the same memory without running Python again. It says nothing of speed, of
streams that overlap, or of the kernels' numbers, which are the CPU's; autocast leaves them in float32. Of
streams it knows that there are few, and whose workspaces products use. What only cuDNN has is computed by
`pretended_cudnn`.
"""

from __future__ import annotations

import itertools
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pretended_cudnn
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
_WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2"}
_OF_CUBLAS = {"mm", "addmm", "bmm", "baddbmm"}
_PRODUCTS = {
    *_OF_CUBLAS,
    *("convolution", "convolution_backward"),
    *pretended_cudnn.OPERATIONS,
}
_STREAMS = 32  # as many as torch has


class Stream:
    """A row of work; `user` is the stream from which its cuBLAS workspace was used since all had to wait."""

    user: Stream | None = None

    def wait_stream(self, other: Stream) -> None:
        """Work is done when its calls return."""


class PretendedGpu:
    """The device's state; `on` it everything that names "cuda" runs.

    Attributes
    ----------
    waits
        How often the host waited, by operation.
    unguarded
        Products and convolutions that ran outside of the precision context.
    captures, replays
        How often a graph was recorded, and replayed.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.unguarded: list[str] = []
        self.captures = self.replays = 0
        self.recording: list[tuple[Any, Any, Any, Any]] | None = None
        self.made: list[Tensor] = []  # while recording
        self.sync_debug: int | str = 0
        self.replaying = False
        self.default = self.stream = Stream()
        self.streams = [Stream() for _ in range(_STREAMS)]
        self._turn = itertools.count()
        self.graphs = weakref.WeakSet[Any]()
        self._labelled: dict[int, Any] = {}  # storages, kept so that no other gets their address

    def next_stream(self) -> Stream:
        """One of few: who takes more gets those again that others have."""
        return self.streams[next(self._turn) % len(self.streams)]

    def synchronize(self) -> None:
        """Wait for all streams."""
        self.wait("synchronize")
        for one in [self.default, *self.streams]:
            one.user = None

    def multiply(self, made_in: Stream) -> None:
        """A product in the present stream, with the workspace of the one in which it was made or captured."""
        if made_in.user not in (None, self.stream):
            raise RuntimeError("two streams compute with one workspace of cuBLAS")
        made_in.user = self.stream

    def has(self, value: Tensor) -> bool:
        """Whether a tensor lies on the device."""
        return value.layout == torch.strided and value.untyped_storage()._cdata in self._labelled

    def label(self, value: Any, device: torch.device) -> Any:
        """Say where all tensors in `value` lie."""
        for one in _tensors(value):
            storage = one.untyped_storage()
            if device.type == "cuda":
                self._labelled[storage._cdata] = storage
            else:
                self._labelled.pop(storage._cdata, None)
        return value

    def wait(self, what: str) -> None:
        """The host waits; an error where it mustn't."""
        if self.recording is not None or self.sync_debug == "error":
            raise RuntimeError(f"called a synchronizing CUDA operation: {what}")
        self.waits[what] += 1

    def replay(self, recorded: list[tuple[Any, Any, Any, Any]]) -> None:
        """Repeat operations on the memory that they had."""
        self.replays += 1
        self.replaying = True
        try:
            with torch.inference_mode():
                for func, args, kwargs, before in recorded:
                    now = func(*args, **kwargs)
                    for old, new in zip(_tensors(before), _tensors(now), strict=True):
                        if old.data_ptr() != new.data_ptr():
                            old.copy_(new)
        finally:
            self.replaying = False


class _Functions(TorchFunctionMode):
    """What Python asks a tensor, and where it makes one."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu, kwargs = self.gpu, dict(kwargs or {})
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is not None and getattr(func, "__self__", None) in (Tensor.device, Tensor.is_cuda):
            if func.__self__ is Tensor.is_cuda:
                return gpu.has(first)
            return CUDA if gpu.has(first) else func(first)
        if first is not None and func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._moved(func, first, args[1:], kwargs)
        if first is not None and func in (Tensor.numpy, Tensor.__array__) and gpu.has(first):
            raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")
        if first is not None and func is Tensor.tolist and gpu.has(first):
            gpu.wait("tolist")  # it reads memory without an operation
        if func is Tensor.__deepcopy__:
            return gpu.label(func(*args, **kwargs), CUDA if gpu.has(args[0]) else CPU)
        if kwargs.get("device") is not None:
            wanted = torch.device(kwargs["device"])
            if wanted.type in ("cpu", "cuda"):
                kwargs["device"] = "cpu"
                result = gpu.label(func(*args, **kwargs), wanted)
                if gpu.recording is not None and wanted.type == "cuda":  # zeros are written each time
                    gpu.recording.append((func, args, kwargs, result))
                    gpu.made += _tensors(result)
                return result
        return func(*args, **kwargs)

    def _moved(self, func: Any, value: Tensor, args: Any, kwargs: dict[str, Any]) -> Tensor:
        here = CUDA if self.gpu.has(value) else CPU
        if func is not Tensor.to:
            device, dtype, layout, copied = CPU if func is Tensor.cpu else CUDA, None, None, False
        elif args and isinstance(args[0], Tensor):
            other = args[0]
            device, dtype, layout, copied = CUDA if self.gpu.has(other) else CPU, other.dtype, None, False
        else:
            copied = kwargs.pop("copy", False)
            device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        if device is not None and device.type not in ("cpu", "cuda"):
            return func(value, *args, **kwargs)  # to the device meta
        result = value.to(dtype or value.dtype, memory_format=layout or torch.preserve_format, copy=copied)
        if device is None or device.type == here.type:
            return result
        self.gpu.wait(f"copy from {here.type} to {device.type}")
        return self.gpu.label(result.clone(), device)


class _Operations(TorchDispatchMode):
    """What is computed, and with what."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu, kwargs = self.gpu, kwargs or {}
        given = _tensors([args, kwargs])
        if gpu.replaying or not any(map(gpu.has, given)):
            return func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        strays = [one for one in given if not gpu.has(one)]
        if name in _WAITING or (name == "copy_" and strays):
            gpu.wait(name)
        elif name in ("index", "index_put_", "_index_put_impl_"):
            if any(one.dtype == torch.bool for one in given[1:]) or strays:
                gpu.wait(name)
        elif any(one.dim() for one in strays):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {name} got cuda:0 and cpu"
            )
        if name in _OF_CUBLAS and gpu.recording is None:
            gpu.multiply(gpu.stream)
        if name in _PRODUCTS and not torch.backends.cudnn.deterministic:
            gpu.unguarded.append(name)
        func = pretended_cudnn.OPERATIONS.get(name, func)
        result = func(*args, **kwargs)
        own = {one.untyped_storage()._cdata for one in given}
        made = [one for one in _tensors(result) if one.untyped_storage()._cdata not in own]
        gpu.label(made, CUDA)
        if gpu.recording is not None:
            gpu.made += made
            gpu.recording.append((func, *pytree.tree_map(self._as_now, (args, kwargs, result))))
        return result

    def _as_now(self, value: Any) -> Any:
        """For a graph: the memory that a tensor has now, and numbers of the host as they are."""
        if not isinstance(value, Tensor):
            return value
        return value.detach() if self.gpu.has(value) else value.clone()


def _tensors(value: Any) -> list[Tensor]:
    return [one for one in pytree.tree_leaves(value) if isinstance(one, Tensor)]


@contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """A GPU for the block; tensors that it leaves behind are the CPU's."""
    gpu = PretendedGpu()

    class Graph:
        def __init__(self) -> None:
            self.recorded: list[tuple[Any, Any, Any, Any]] = []
            self.stream, self.freed = gpu.default, False
            gpu.graphs.add(self)

        def __del__(self) -> None:  # as in torch: with any of them goes what cuBLAS has for the stream
            for one in gpu.graphs:
                one.freed |= one.stream is self.stream

        def replay(self) -> None:
            if self.freed:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            gpu.multiply(self.stream)
            gpu.replay(self.recorded)

    class InStream:
        """As torch's, it can be entered again."""

        def __init__(self, stream: Stream) -> None:
            self.stream = self.before = stream

        def __enter__(self) -> None:
            self.before, gpu.stream = gpu.stream, self.stream

        def __exit__(self, *error: object) -> None:
            gpu.stream = self.before

    @contextmanager
    def capturing(graph: Graph, stream: Stream | None = None) -> Iterator[None]:
        assert stream is not None, "torch's own stream for captures is one device's"
        assert stream is not gpu.default, "the default stream can't be captured"
        gpu.captures += 1
        gpu.recording, graph.stream = graph.recorded, stream
        try:
            with InStream(stream):
                yield
        finally:
            gpu.recording = None
            with torch.inference_mode():
                for one in gpu.made:  # nothing was computed yet
                    one.detach().fill_(torch.nan if one.is_floating_point() else 1)
            gpu.made = []

    def set_sync_debug(mode: int | str) -> None:
        if mode:
            warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=2)  # as torch does
        gpu.sync_debug = mode

    def set_device(device: torch.device | int) -> None:
        if isinstance(device, torch.device) and device.index is None:
            raise ValueError("Expected a torch.device with a specified index or an integer")

    class Event:
        """A moment of the stream, whose work is done when its calls return."""

        def __init__(self, enable_timing: bool = False) -> None:
            self.at = 0.0

        def record(self, stream: object = None) -> None:
            self.at = time.perf_counter()

        def synchronize(self) -> None:
            gpu.wait("synchronize")

        def elapsed_time(self, end: Event) -> float:
            return 1000 * (end.at - self.at)

    drawn = torch.Generator()
    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: "a pretended GPU",
        "Event": Event,
        "get_rng_state": lambda device=None: drawn.get_state(),
        "set_rng_state": lambda state, device=None: drawn.set_state(state),
        "manual_seed_all": drawn.manual_seed,
        "set_device": set_device,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda including_emulation=True: True,
        "empty_cache": lambda: None,
        "get_device_properties": lambda device=None: SimpleNamespace(L2_cache_size=50 << 20),
        "mem_get_info": lambda device=None: (8 << 30, 16 << 30),
        "memory_reserved": lambda device=None: 3 << 30,
        "memory_allocated": lambda device=None: 1 << 30,
        "synchronize": lambda device=None: gpu.synchronize(),
        "current_stream": lambda device=None: gpu.stream,
        "default_stream": lambda device=None: gpu.default,
        "Stream": lambda device=None: gpu.next_stream(),
        "stream": InStream,
        "device": lambda one: nullcontext(),
        "CUDAGraph": Graph,
        "graph": capturing,
        "get_sync_debug_mode": lambda: gpu.sync_debug,
        "set_sync_debug_mode": set_sync_debug,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        for name, answer in pretended_cudnn.ANSWERS.items():
            stack.enter_context(mock.patch.object(torch.backends.cudnn, name, answer))
        stack.enter_context(_Operations(gpu))
        stack.enter_context(_Functions(gpu))
        yield gpu
