"""The front door: the command ``sharpscape``, the version, and what keeps the four packages together.

``sharpscape surface net.pt`` runs what ``python -m landscape.surface net.pt`` runs. The packages' names are
common ones: a research repository often has a `training` or an `analysis` of its own, and ``python -m`` puts
the current folder first. In a process that is one of our commands our packages are therefore found
beside this file, whatever the current folder holds; in somebody's own program nothing is changed.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("landscape", "training", "analysis", "figures")
ROOT = Path(__file__).resolve().parent

COMMANDS = {
    "surface": ("landscape.surface", "loss surfaces of checkpoints: file, picture, page, roughness Ra"),
    "view": ("landscape.viewer", "one interactive page of surface files, live while they are computed"),
    "roughness": ("analysis.roughness", "Ra and its siblings of surface files, with intervals"),
    "hessian": ("analysis.hessian", "eigenvalues, trace and spectral density of the Hessian"),
    "sharpness": ("analysis.sharpness", "how far the loss rises near a minimum: SAM, ASAM, Keskar, ..."),
    "robustness": ("analysis.robustness", "accuracy on corrupted images: CIFAR-10-C, ImageNet-C, mCE"),
    "curvature": ("analysis.curvature", "maps of the Hessian's extreme eigenvalues over a surface"),
    "connectivity": ("analysis.connectivity", "paths between two networks and the barrier on them"),
    "compare": ("analysis.compare", "results of several networks in one table, with paired tests"),
    "train": ("training", "a dense or sparse image classifier with SGD, SAM or S2-SAM"),
    "sweep": ("training.sweep", "a matrix of trainings, resumable"),
    "figures": ("figures", "the paper's figures and tables from results"),
    "sheet": ("figures.compare", "one printable figure of several surface files"),
    "reproduce": ("figures.reproduce", "everything from training to the report"),
    "completion": ("landscape.commandline.completion", "what bash, zsh or fish need to complete all this"),
}
"""What each command runs and what it is for, in the order in which one meets them."""

USAGE = """usage: sharpscape COMMAND ...

{commands}

sharpscape COMMAND --help shows every option; sharpscape --version the version.
First steps: sharpscape surface CHECKPOINT, then open the page that it names.
"""

USAGE_OF_A_PACKAGE = """usage: python -m {package}.COMMAND ...

{commands}

python -m {package}.COMMAND --help shows every option; sharpscape alone shows the commands of all packages.
"""


class OwnPackages(importlib.abc.MetaPathFinder):
    """Finds the four packages beside this file."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if path is not None or fullname not in PACKAGES:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, [str(ROOT)])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: run another one by its name, or say which there are.

    Exit codes are those of the command; 2 for a name that isn't known.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("--help", "-h", "help"):
        print(USAGE.format(commands=_listed({name: text for name, (_, text) in COMMANDS.items()})), end="")
        raise SystemExit(0 if words else 2)
    if words[0] in ("--version", "-V", "version"):
        print(f"sharpscape {version()}")
        return
    if words[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        if Path(words[0]).suffix in (".pt", ".pth", ".safetensors", ".ckpt"):
            hint = f"for its surface: sharpscape surface {words[0]}; "
        print(f"error: no command {words[0]!r}; {hint}known: {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    _find_own_packages()
    if _named() is not None:
        _stop_at_once()
    module = COMMANDS[words[0]][0]
    sys.argv = [f"sharpscape {words[0]}", *words[1:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def show_commands(package: str) -> None:
    """What ``python -m PACKAGE`` says where no command has that name: which there are in it."""
    inside = {module: text for module, text in COMMANDS.values() if module.startswith(f"{package}.")}
    commands = _listed({module.rpartition(".")[2]: text for module, text in inside.items()})
    print(USAGE_OF_A_PACKAGE.format(package=package, commands=commands), end="")


def _listed(texts: Mapping[str, str]) -> str:
    width = max(map(len, texts)) + 2
    return "\n".join(f"  {name:<{width}}{text}" for name, text in texts.items())


def program(module: str) -> str:
    """How a command was called, for its help: ``sharpscape surface`` or ``python -m landscape.surface``."""
    name = _named()
    return f"sharpscape {name}" if name and COMMANDS[name][0] == module else f"python -m {module}"


def running() -> str | None:
    """The module that this process is the command of, or None."""
    name, words = _named(), sys.orig_argv[1:]
    following = words[words.index("-m") + 1 :][:1] if "-m" in words else []
    return COMMANDS[name][0] if name else next(iter(following), None)


@cache
def version() -> str:
    """The installed version; in a git checkout the commit, and whether files differ from it, beside it.

    An editable installation keeps the version of the day on which it was made, while its code moves on.
    """
    try:
        installed = importlib.metadata.version("sharpscape")
    except importlib.metadata.PackageNotFoundError:
        installed = "not installed"
    commit = _commit()
    return f"{installed.partition('+')[0]}+g{commit}" if commit else installed


def exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__`` that imports its public names when they are first used (PEP 562).

    Parameters
    ----------
    package, homes
        Its name, and by public name the module inside it.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return find


def check_own(package: str) -> None:
    """Refuse to go on with somebody else's package of one of our names.

    Raises
    ------
    ImportError
        With one line that says which folder hides which package and what helps.
    """
    found = sys.modules.get(package) or importlib.util.find_spec(package)
    places = list(
        getattr(found, "__path__", None) or getattr(found, "submodule_search_locations", None) or ()
    )
    if str(ROOT / package) not in (str(Path(place).resolve()) for place in places):
        where = (
            places[0] if places else getattr(found, "origin", None) or getattr(found, "__file__", "nowhere")
        )
        raise ImportError(
            f"{where} hides sharpscape's package {package!r}: rename it, start where it isn't first on the "
            "path, or use the command sharpscape"
        )


def _commit() -> str:
    """Short hash of the checkout that this file lies in, ".dirty" behind it where it was edited; or ""."""
    if not (ROOT / ".git").exists():
        return ""
    line = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=.dirty", "--exclude=*", "--abbrev=9"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git here, or a checkout of somebody else's
        return ""
    return done.stdout.strip()


def _named() -> str | None:
    """The command's name where this process was started as ``sharpscape NAME``."""
    words = sys.orig_argv[1:]
    if words[:2] == ["-m", "sharpscape"]:
        words = words[1:]
    if words and Path(words[0]).stem == "sharpscape" and words[1:2] and words[1] in COMMANDS:
        return words[1]
    return None


def _is_command() -> bool:
    """Whether this process is ``python -m`` with one of our modules."""
    module = running()
    return module is not None and module.partition(".")[0] in PACKAGES


def _find_own_packages() -> None:
    if not any(isinstance(one, OwnPackages) for one in sys.meta_path):
        sys.meta_path.insert(0, OwnPackages())


def _stop_at_once() -> None:
    """A signal that comes while modules are loaded, which takes seconds, is one line as well."""
    from landscape.keeping.signals import stop_at_once

    stop_at_once("give the same command to go on")


if _is_command():
    _find_own_packages()
    _stop_at_once()

if __name__ == "__main__":
    main()
