"""Which data set to take where none was named: by the checkpoint's word, what is on disk, the sample."""

from __future__ import annotations

from pathlib import Path

from landscape.errors import UserError

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
"""torchvision's folder of each set that has one."""

_CLASSES = {"cifar10": 10, "cifar100": 100}


def choose_spec(root: Path, name: str, num_classes: int | None, download: bool) -> tuple[str, str]:
    """Data set as ``--data`` takes it, and the reason.

    Parameters
    ----------
    root
        Folder of the data sets.
    name
        What the checkpoint calls its data; empty where it doesn't say.
    num_classes
        The network's, where known.
    download
        Whether CIFAR may be fetched.

    Raises
    ------
    UserError
        When there are no such data and the shipped sample doesn't fit either.
    """
    says = f"checkpoint says {name}" if name else "checkpoint names no data"
    fitting = [one for one, classes in _CLASSES.items() if num_classes in (None, classes)]
    for candidate in [name] if name else fitting:
        if (found := on_disk(candidate, root)) is not None:
            return found, f"{says}; found under {root}"
    if name in _CLASSES and download:
        return name, f"{says}; downloaded to {root}"
    sample_fits = name in ("cifar10", "sample") if name else "cifar10" in fitting
    if not sample_fits:
        classes = "" if num_classes is None else f" of {num_classes} classes"
        raise UserError(
            f"{says}, and none{classes} lie under {root}; name the data with --data or their folder "
            "with --data-root"
        )
    where = "" if name == "sample" else f"; none under {root}; --data-root PATH gives the full set"
    return "sample", f"{says}{where}"


def on_disk(name: str, root: Path) -> str | None:
    """How a set can be read from `root`: as torchvision's folder, ``NAME.npz`` or the image folder ``NAME``.

    None where none of them is there.
    """
    if name in FOLDERS and (root / FOLDERS[name]).is_dir():
        return name
    if name in ("", "sample", "..") or Path(name).name != name:  # a checkpoint's word for it is no path
        return None
    if (root / f"{name}.npz").is_file():
        return f"npz:{root / name}.npz"
    return f"imagefolder:{root / name}" if (root / name).is_dir() else None
