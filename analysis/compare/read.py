"""From a file to rows: surfaces, spectra, answers to corrupted images, JSON of our commands, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from math import inf, isinf, isnan, nan
from pathlib import Path
from typing import Any

from analysis.compare.rows import PLAIN, Cell, Row, share
from analysis.statistics.uncertainty import Estimate
from landscape.commandline.console import note
from landscape.errors import UserError
from landscape.files import check_regular
from landscape.files.json_files import number_or_none, read_json

HDF5 = (".h5", ".hdf5")
KINDS = (".surface.h5", ".hessian.h5", ".robustness.h5")  # what our commands call their files


def is_checkpoint(path: Path) -> bool:
    """Whether a file is to be read as a checkpoint, by its name."""
    return path.suffix not in (*HDF5, ".json")


def row_name(path: Path) -> str:
    """What a file is called: its name without its kind, or its folder's where the name says nothing."""
    kind = next((one for one in KINDS if path.name.endswith(one)), path.suffix)
    stem, folder = path.name.removesuffix(kind), path.resolve().parent.name
    return folder if stem in PLAIN and folder else stem


def _name(label: str, file: str) -> str:
    """What a result calls its network, or its file's name where that says nothing."""
    return row_name(Path(file)) if Path(label).stem in PLAIN else label


def read_results(path: Path) -> list[Row]:
    """Rows of a surface, a spectrum, or a JSON result.

    Raises
    ------
    UserError
        When the file is missing, unreadable or something else.
    """
    try:
        check_regular(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: {reason}; {_EXPECTED}") from error
    return list(_hdf5(path) if path.suffix in HDF5 else _json(path))


def _hdf5(path: Path) -> Iterator[Row]:
    from landscape.hdf5 import read_tree

    tree, _ = read_tree(path, "HDF5 file", "landscape.surface, analysis.hessian or analysis.robustness")
    kind = tree.attrs.get("format")
    if kind == "sharpscape.hessian":
        from analysis.hessian import load_spectrum
        from analysis.hessian.spectrum_table import to_json

        yield from map(spectrum_row, json.loads(to_json([load_spectrum(path)], [path])))
    elif kind == "sharpscape.robustness":
        yield _robustness(path)
    else:
        yield _surface(path)


def _surface(path: Path) -> Row:
    from analysis.roughness import roughness
    from analysis.roughness.conventions import conventions
    from landscape.surface import load_surface

    surface = load_surface(path)
    checkpoint = _mapping(surface.about.get("checkpoint"))
    name = _name(surface.label, str(path))
    row = Row(name, [str(path)], str(checkpoint.get("sha256") or ""))
    row.cells |= _metrics(_mapping(checkpoint.get("metrics")), row.name)
    density = surface.planes[0].about.get("density")
    if density is not None:
        row.cells["sparsity"] = Cell(1 - float(density))
    for number, split in enumerate(surface.splits):
        suffix = f" ({split})" if number else ""
        row.cells[f"ra{suffix}"] = _estimate(roughness(surface, split=split).ra)
        try:
            row.cells[f"ra_log{suffix}"] = _estimate(roughness(surface, split=split, log=True).ra)
        except UserError:  # a loss that isn't positive has no logarithm; the loss itself was measured
            continue
    made = conventions(surface, surface.splits[0])
    row.made |= {f"surface {name}": text for name, text in made.items()}
    return row


def _robustness(path: Path) -> Row:
    """Mean accuracy over the benchmark's corruptions; clean images may be fewer than the checkpoint's own."""
    from analysis.robustness import read

    found = read(path)
    mean = found.mean_accuracy()
    if isnan(mean.value):
        raise UserError(
            f"{path} lacks some of the 15 corruptions of the benchmark; go on with `sharpscape robustness`"
        )
    row = Row(_name(found.name, found.file or str(path)), [str(path)], found.sha256)
    row.cells["corrupted"] = _estimate(mean)
    made = {
        "images": found.settings.get("images"),
        "recipe": found.settings.get("recipe"),
        "source": found.source,
    }
    row.made |= {f"corrupted {name}": str(value) for name, value in made.items()}
    return row


def _json(path: Path) -> Iterator[Row]:
    content = read_json(path, "results in JSON")
    results = content.get("results") if isinstance(content, dict) else content
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise UserError(f"{path}: {_EXPECTED}")
    for one in results:
        try:
            row = _reader(one, path)(one)
            _check(row)
            yield row
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise UserError(f"{path} is damaged ({error!r}); compute it anew") from error


_EXPECTED = "expected JSON of analysis.sharpness, analysis.hessian or analysis.roughness"


def _reader(content: Mapping[str, Any], path: Path) -> Callable[[Mapping[str, Any]], Row]:
    for key, reader in (("measures", sharpness_row), ("top", spectrum_row), ("estimates", _roughness)):
        if key in content:
            return reader
    raise UserError(f"{path}: {_EXPECTED}")


def sharpness_row(content: Mapping[str, Any]) -> Row:
    row = Row(_name(content["name"], content["file"]), [content["file"]], content["sha256"])
    about = content["about"]
    row.cells |= _metrics(_mapping(_mapping(about.get("checkpoint")).get("metrics")), row.name)
    row.cells["sparsity"] = Cell(1 - about["density"])
    for name, found in content["measures"].items():
        value = inf if found.get("diverged") else _number(found["value"])
        low, high = _number(found["low"]), _number(found["high"])
        # Its interval is over examples; that of analysis.hessian's λmax is the residual.
        column = "lambda_max (sharpness)" if name == "lambda_max" else name
        row.cells[column] = Cell(value, low, high, found["kind"] == "lower bound")
    row.made |= {
        f"sharpness {key}": str(value) for key, value in content["settings"].items() if key != "mask"
    }
    row.made["sharpness split"] = content["split"]
    return row


def spectrum_row(content: Mapping[str, Any]) -> Row:
    about = content["about"]
    checkpoint = _mapping(about.get("checkpoint"))
    name = _name(content["label"], content["file"])
    row = Row(name, [content["file"]], str(checkpoint.get("sha256") or ""))
    row.cells |= _metrics(_mapping(checkpoint.get("metrics")), row.name)
    if not isinstance(content["top"], list):
        raise TypeError("the largest eigenvalues aren't a list")
    if content["top"]:
        value, residual = (_number(content["top"][0][key]) for key in ("value", "residual"))
        row.cells["lambda_max"] = Cell(value, value - residual, value + residual)
    trace = content["trace"]
    value, error = _number(trace["value"]), _number(trace["error"])
    row.cells["trace"] = Cell(value, value - error, value + error)
    settings = content["settings"]
    told = {"examples": settings.get("examples"), "mask": (settings.get("mask") or {}).get("source")}
    row.made |= {f"hessian {key}": str(value) for key, value in told.items() if value is not None}
    return row


def _roughness(content: Mapping[str, Any]) -> Row:
    ra = content["estimates"]["ra"]
    value = inf if ra["value"] is None and content["diverged_radius"] is not None else _number(ra["value"])
    key = "ra_log" if content["quantity"] == "log loss" else "ra"
    name = _name(content["surface"], content["file"])
    row = Row(name, [content["file"]], content.get("sha256", ""))
    row.cells[key] = Cell(value, _number(ra["low"]), _number(ra["high"]))
    row.made |= {f"surface {name}": str(text) for name, text in content["made"].items()}
    row.made["surface split"] = content["split"]
    return row


def checkpoint_row(path: Path, loaded: Any, density: float) -> Row:
    """Accuracy and sparsity of a loaded checkpoint (`landscape.checkpoint.LoadedCheckpoint`)."""
    row = Row(row_name(path), [str(path)], loaded.sha256)
    row.cells |= _metrics(loaded.metrics, row.name)
    row.cells["sparsity"] = Cell(1 - density)
    return row


def _metrics(metrics: Mapping[str, Any], name: str) -> dict[str, Cell]:
    """The accuracy that a checkpoint states of itself, where it is a fraction; others' may be in percent."""
    accuracy, count = metrics.get("test_accuracy"), metrics.get("test_examples")
    if accuracy is None:
        return {}
    if isinstance(accuracy, bool) or not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        note(f"{name}: test accuracy left out, it is {str(accuracy)[:40]!r}; expected a fraction, 0 to 1")
        return {}
    counted = isinstance(count, int) and not isinstance(count, bool) and 0 < count < 1 << 53
    return {"accuracy": share(float(accuracy), count if counted else None)}


def _estimate(found: Estimate) -> Cell:
    return Cell(found.value) if isinf(found.value) else Cell(found.value, found.low, found.high)


def _number(value: Any) -> float:
    found = number_or_none(value, "a result")
    return nan if found is None else found


def _check(row: Row) -> None:
    """A row out of JSON has texts where it is shown and numbers that can be."""
    texts = [row.name, row.sha256, *row.files, *row.made, *row.made.values()]
    if not all(isinstance(one, str) for one in texts):
        raise TypeError("a name, file or setting isn't a text")
    for name, cell in row.cells.items():
        if cell.low > cell.high or not isinstance(name, str):
            raise ValueError(f"{name}: the interval [{cell.low}, {cell.high}] is none")
    share = row.cells.get("sparsity")
    if share is not None and not 0 <= share.value <= 1:
        raise ValueError(f"a sparsity of {share.value}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
