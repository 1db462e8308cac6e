"""Where a training computes and writes, as its command line says it."""

# Annotations are objects here (no ``from __future__``): the parser reads those of this class elsewhere.

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


@dataclass(frozen=True)
class Machine:
    """Where a run computes and writes; none of this is part of its settings.

    Attributes
    ----------
    output
        Folder of the run; by default runs/ and a name made of the settings.
    data_root
        Folder that holds cifar-10-batches-py or cifar-100-python; ./data by default.
    download
        Let torchvision download CIFAR when it isn't there.
    device
        auto, cpu, cuda or cuda:N; auto takes a GPU when there is one.
    threads
        CPU threads; as many as torch chooses by default. Another number can change the last bits.
    compile
        Let torch.compile fuse forward and backward pass (needs a C++ compiler on a CPU); changes last bits.
    record_every
        Keep the weights of every so many steps, sparsely, in the run's folder trajectory/; 0 keeps none.
    sparse
        Compute with kept weights only, on a CPU: where that is faster (auto), always, or never. Changes last
        bits; a run that goes on keeps to what it began with.
    save_every
        Seconds after which the state is saved within an epoch, too; 0 saves after whole epochs only.
    cuda_graph
        On a GPU, replay forward and backward pass of a step as one CUDA graph where that gives the same bits
        (auto), or never (off).
    workers
        Processes that decode photographs, 0 for none; one a core by default, at most 16.
    skip_broken
        Leave photographs out that can't be decoded; how many and which are stated. For that each is decoded
        once before the training. Without it the first one that comes up is refused.
    """

    output: Annotated[Path | None, Parameter(alias="-o")] = None
    data_root: Path | None = None
    download: bool = False
    device: str = "auto"
    threads: int | None = None
    compile: bool = False
    record_every: int = 0
    sparse: Literal["auto", "on", "off"] = "auto"
    save_every: float = 600.0
    cuda_graph: Literal["auto", "off"] = "auto"
    workers: int | None = None
    skip_broken: bool = False
