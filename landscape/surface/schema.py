"""The surface file's schema, to and from a `Surface`. Specified in ``docs/surface-format.md``.

Everything that reads surface files does so through here, and takes for granted what is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import nan, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.errors import UserError
from landscape.files.json_files import as_json
from landscape.hdf5 import fields
from landscape.hdf5.tree import MalformedError, Tree
from landscape.surface import (
    FORMAT,
    FORMAT_VERSION,
    BoolArray,
    FloatArray,
    Metric,
    Path2D,
    Plane,
    Split,
    Surface,
)

if TYPE_CHECKING:
    import h5py

MOST_POINTS = 16_000_000
MOST_PLANES = 10_000
MOST_AXES = 2
ONE_CHUNK = 8 << 20  # bytes of a grid that is one piece
LEVEL, FINAL_LEVEL = 4, 9  # of gzip: 5 % fewer bytes take five times as long, too long for every save
SHARES = ("accuracy",)  # metrics that are fractions
TRANSFORMS = ("auto", "log", "cube root", "none")  # of `landscape.sampling.interpolate`
CURVATURE = ("lambda_max", "lambda_min")
_TIMING = ("seconds", "points")
_ABOUT = ("timing", "units", "curvature", "versions", "hardware", "checkpoint", "data")
_PLANE = ("interpolation", "alpha_to", "beta_to", "axes", "seed")
_SETTINGS = ("mask", "params", "examples", "engine", "sampling", "planes")
_TEXTS = ("label", "started")
_NUMBERS = ("parameters", "nonzero_parameters")


def surface_of(tree: Tree, sealed: bool) -> Surface:
    """The surface in a file's content; `sealed` says whether a digest vouches for it.

    Raises
    ------
    MalformedError
        Where it isn't as the schema says.
    """
    fields.check_version(tree, FORMAT, FORMAT_VERSION, sealed, "landscape.surface")
    alpha, beta = fields.grid(tree, "alpha"), fields.grid(tree, "beta")
    shape = (len(alpha), len(beta))
    if prod(shape) > MOST_POINTS:
        raise MalformedError(f"a grid of {shape[0]} × {shape[1]} points; at most {MOST_POINTS} are read")
    groups = fields.numbered(fields.group(tree, "planes"), "planes", MOST_PLANES)
    if not groups:
        raise MalformedError("it holds no plane")
    planes = tuple(_plane(group, shape) for group in groups)
    if any(list(plane.splits) != list(planes[0].splits) for plane in planes):
        raise MalformedError("its planes have different splits")
    about = fields.told(fields.mapping(tree.attrs, "about"), _ABOUT)
    settings = fields.told(fields.mapping(tree.attrs, "settings"), _SETTINGS)
    _check_about(about)
    _check_settings(settings, len(planes))
    if "timing" in about:
        about["timing"] = fields.told(about["timing"], _TIMING)
    surface = Surface(
        alpha=alpha,
        beta=beta,
        planes=planes,
        settings=settings,
        about=about,
        complete=fields.flag(tree.attrs, "complete"),
    )
    _check_curvature(surface)
    return surface


def check_provenance(about: Mapping[str, Any], planes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what a file couldn't say of a surface and of its planes, or what nobody could read there.

    Raises
    ------
    UserError
        In one line.
    """
    try:
        for one in about, *planes:
            as_json(one)
        _check_about(about)
        for one in planes:
            _check_plane_about(one)
    except MalformedError as error:
        raise UserError(f"this surface can't be written: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"this surface can't be written: what it says of itself is no JSON ({error}); expected texts, "
            "numbers, lists and mappings of these, by names that are texts"
        ) from error


def write_surface(file: h5py.File, surface: Surface) -> None:
    """Fill an empty file.

    Raises
    ------
    UserError
        For provenance that `surface_of` would refuse.
    """
    check_provenance(surface.about, [plane.about for plane in surface.planes])
    try:
        for plane in surface.planes:
            for name, split in plane.splits.items():
                _check_names(name, *split.metrics)
    except MalformedError as error:
        raise UserError(f"this surface can't be written: {error}") from error
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["complete"] = surface.complete
    file.attrs["settings"] = as_json(surface.settings)
    file.attrs["about"] = as_json(surface.about)
    file["alpha"] = np.asarray(surface.alpha, np.float64)
    file["beta"] = np.asarray(surface.beta, np.float64)
    level = FINAL_LEVEL if surface.complete else LEVEL
    for index, plane in enumerate(surface.planes):
        _write_plane(file.create_group(f"planes/{index}"), plane, level)


def _write_plane(group: h5py.Group, plane: Plane, level: int) -> None:
    group.attrs["about"] = as_json(plane.about)
    _write_grid(group, "computed", plane.computed, level)
    group.attrs["splits"] = json.dumps(list(plane.splits))
    for name, split in plane.splits.items():
        part = group.create_group(f"splits/{name}")
        part.attrs["examples"] = split.examples
        part.attrs["metrics"] = json.dumps(list(split.metrics))
        part["block_counts"] = np.asarray(split.block_counts, np.int64)
        for metric_name, metric in split.metrics.items():
            _write_metric(part, metric_name, metric, level)
    for axis, tensors in enumerate(plane.directions):
        for name, tensor in tensors.items():
            # HDF5 compresses no scalars.
            packed = {"compression": "gzip", "shuffle": True} if tensor.ndim else {}
            group.create_dataset(f"directions/{axis}/{name}", data=tensor, **packed)
    if plane.path is not None:
        path = group.create_group("path")
        path["alpha"] = np.asarray(plane.path.alpha, np.float64)
        path["beta"] = np.asarray(plane.path.beta, np.float64)
        path.attrs["labels"] = json.dumps(list(plane.path.labels))
        if plane.path.parts:
            path.attrs["parts"] = json.dumps([list(part) for part in plane.path.parts])


def _write_metric(group: h5py.Group, name: str, metric: Metric, level: int) -> None:
    _write_grid(group, name, metric.values, level)
    group[name].attrs["error"] = float(metric.error)
    group[name].attrs["log_error"] = float(metric.log_error)
    _write_grid(group, f"{name}_stderr", metric.stderr, level)
    if metric.blocks is not None:
        _write_grid(group, f"{name}_blocks", metric.blocks, level)
    if metric.computed is not None:
        _write_grid(group, f"{name}_computed", metric.computed, level)


def _write_grid(group: h5py.Group, name: str, values: FloatArray | BoolArray, level: int) -> None:
    """NaN, short numbers and flags are nearly free."""
    data = values if values.dtype == bool else np.asarray(values, np.float64)
    chunks = data.shape if 0 < data.nbytes <= ONE_CHUNK else True  # small ones would each have an index
    group.create_dataset(
        name, data=data, chunks=chunks, compression="gzip", compression_opts=level, shuffle=True
    )


def _plane(group: Tree, shape: tuple[int, int]) -> Plane:
    about = fields.told(fields.mapping(group.attrs, "about"), _PLANE)
    _check_plane_about(about)
    computed = fields.array(group, "computed", "bool", shape)
    names = fields.names(group.attrs, "splits")
    parts = _nested(fields.group(group, "splits"), names)
    if not names:
        raise MalformedError("a plane has no split")
    splits = {name: _split(parts[name], shape) for name in names}
    path = fields.optional(group, "path")
    axes = fields.optional(group, "directions") or Tree()
    return Plane(
        about=about,
        computed=computed,
        splits=splits,
        directions=tuple(dict(one.flat()) for one in fields.numbered(axes, "directions", MOST_AXES)),
        path=None if path is None else _path(path),
    )


def _check_names(*names: str) -> None:
    """HDF5 takes these names for groups and data sets."""
    for name in names:
        parts = name.split("/")
        if "\0" in name or name.encode("utf-8", "replace").decode() != name or {"", ".", ".."} & set(parts):
            raise MalformedError(f"{name!r} is no name for a split or metric")


def _nested(group: Tree, names: tuple[str, ...]) -> dict[str, Tree]:
    """The groups of these names, each of which may hold slashes."""
    found: dict[str, Tree] = {}
    for name in names:
        one = group
        for part in name.split("/"):
            one = fields.group(one, part)
        found[name] = one
    return found


def _path(group: Tree) -> Path2D:
    labels = fields.names(group.attrs, "labels", distinct=False)
    alpha, beta = (fields.array(group, name, "float64", (len(labels),)) for name in ("alpha", "beta"))
    return Path2D(alpha, beta, labels, _parts(group, len(labels)))


def _parts(group: Tree, networks: int) -> tuple[tuple[str, int], ...]:
    """Of a path with several trainings: name and number of networks of each; together they are all."""
    if "parts" not in group.attrs:
        return ()
    found = fields.parsed(group.attrs, "parts")
    fits = isinstance(found, list) and all(
        isinstance(one, list)
        and len(one) == 2
        and isinstance(one[0], str)
        and type(one[1]) is int
        and one[1] > 0
        for one in found
    )
    if not fits or sum(count for _, count in found) != networks:
        raise MalformedError(f"parts aren't names and numbers of the {networks} networks of a path")
    return tuple((name, count) for name, count in found)


def _split(group: Tree, shape: tuple[int, int]) -> Split:
    names = fields.names(group.attrs, "metrics")
    if not names or names[0] != "loss":
        raise MalformedError("metrics must begin with loss")
    counts = fields.array(group, "block_counts", "int64", (None,))
    examples = fields.integer(group.attrs, "examples", 1)
    if counts.size and ((counts < 1).any() or int(counts.sum()) != examples):
        raise MalformedError(f"block_counts must be positive and add up to the {examples} examples")
    return Split(examples, {name: _metric(group, name, shape, len(counts)) for name in names}, counts)


def _metric(group: Tree, name: str, shape: tuple[int, int], blocks: int) -> Metric:
    home, last = group, name
    for part in name.split("/")[:-1]:
        home = fields.group(home, part)
        last = name.rpartition("/")[2]
    values = fields.array(home, last, "float64", shape)
    if name == "loss" and np.isneginf(values).any():
        raise MalformedError("loss is -inf somewhere")
    if name in SHARES and ((values < 0) | (values > 1 + 1e-9)).any():
        # Interpolation of fractions is clipped where it is made: nothing else can leave their range.
        raise MalformedError(f"{name} is outside 0 to 1 somewhere")
    stderr = fields.array(home, f"{last}_stderr", "float64", shape)
    fields.not_negative(stderr, f"{name}_stderr")
    has_blocks, own = (fields.has_array(home, f"{last}_{part}") for part in ("blocks", "computed"))
    stated = home.array_attrs.get(last, {})
    return Metric(
        values=values,
        stderr=stderr,
        error=fields.number(stated, "error", 0),
        blocks=fields.array(home, f"{last}_blocks", "float64", (*shape, blocks)) if has_blocks else None,
        computed=fields.array(home, f"{last}_computed", "bool", shape) if own else None,
        log_error=fields.number(stated, "log_error", 0) if "log_error" in stated else nan,
    )


def _check_about(about: Mapping[str, Any]) -> None:
    """What others read of the provenance has the type that they expect; the rest is free."""
    for name in _TEXTS:
        fields.one_of(about.get(name), [str], f"about.{name}")
    for name in _NUMBERS:
        fields.one_of(about.get(name), [int], f"about.{name}")
        fields.finite(about.get(name), f"about.{name}", 0)
    for name in ("timing", "units", "curvature", "versions", "hardware"):
        fields.one_of(about.get(name), [dict], f"about.{name}")
    checkpoint, data = (about.get(name) for name in ("checkpoint", "data"))
    fields.one_of(checkpoint, [dict, str], "about.checkpoint")
    if isinstance(checkpoint, dict):
        for name in ("sha256", "file"):
            fields.one_of(checkpoint.get(name), [str], f"about.checkpoint.{name}")
    if isinstance(data, dict):
        fields.one_of(data.get("seed"), [int], "about.data.seed")
        fields.finite(data.get("seed"), "about.data.seed", 0)
    timing = about.get("timing") or {}
    for name in _TIMING if timing else ():
        fields.finite(timing.get(name, 0), f"about.timing.{name}", 0)


def _check_settings(settings: Mapping[str, Any], planes: int) -> None:
    """What others take from the settings to compute with the same network and examples again."""
    for name in ("mask", "params", "engine"):
        fields.one_of(settings.get(name), [dict], f"settings.{name}")
    fields.one_of(settings.get("sampling"), [dict, str], "settings.sampling")
    fields.one_of(settings.get("mask", {}).get("source"), [str], "settings.mask.source")
    rule = settings.get("params", {}).get("rule", [])
    described = settings.get("planes", [{}] * planes)
    if not isinstance(rule, list) or not all(isinstance(one, str) for one in rule):
        raise MalformedError("settings.params.rule isn't a list of names")
    if not isinstance(described, list) or not all(isinstance(one, dict) for one in described):
        raise MalformedError("settings.planes isn't a list of objects")
    if len(described) < planes:
        raise MalformedError(f"settings.planes describes {len(described)} of {planes} planes")


def _check_plane_about(about: Mapping[str, Any]) -> None:
    for name in ("kind", "label", "normalize", "mask", "alpha_to", "beta_to"):
        fields.one_of(about.get(name), [str], f"a plane's {name}")
    fields.one_of(about.get("seed"), [int], "a plane's seed")
    density = about.get("density")
    fields.one_of(density, [int, float], "a plane's density")
    if density is not None and not 0 <= density <= 1:
        raise MalformedError(f"a plane's density is {density}; expected 0 to 1")
    axes = about.get("axes")
    fields.one_of(axes, [list], "a plane's axes")
    for title in axes or ():
        fields.one_of(title, [str], "the title of an axis")
    _check_interpolation(about.get("interpolation"))


def _check_interpolation(how: Any) -> None:
    fields.one_of(how, [dict], "a plane's interpolation")
    transforms = (how or {}).get("transform", {})
    if not isinstance(transforms, dict):
        raise MalformedError(f"a plane's interpolation.transform is {str(transforms)[:40]!r}")
    for split, one in transforms.items():
        if one not in TRANSFORMS:
            raise MalformedError(f"the interpolation's transform of {split} is {str(one)[:40]!r}")


def _check_curvature(surface: Surface) -> None:
    """What a curvature map says of its points, which lie on the grid and have a value there."""
    known = [str(number) for number in range(len(surface.planes))]
    for split, planes in (surface.about.get("curvature") or {}).items():
        if split not in surface.splits or not isinstance(planes, dict):
            raise MalformedError(f"about.curvature is of a split {split!r}, which isn't there")
        for number, entry in planes.items():
            if number not in known or not isinstance(entry, dict):
                raise MalformedError(f"about.curvature is of a plane {number[:40]!r}, which isn't there")
            _check_entry(surface, split, int(number), entry)


def _check_entry(surface: Surface, split: str, number: int, entry: Mapping[str, Any]) -> None:
    metrics = surface.planes[number].splits[split].metrics
    points, settings = entry.get("points"), entry.get("settings")
    seconds = entry.get("seconds")
    if not all(name in metrics for name in CURVATURE):
        raise MalformedError(
            f"about.curvature tells of plane {number}, which has no {' or '.join(CURVATURE)}"
        )
    if not isinstance(points, list) or not isinstance(settings, dict):
        raise MalformedError("about.curvature lacks its points or settings")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise MalformedError("about.curvature lacks its seconds")
    examples = settings.get("examples")
    if not isinstance(examples, dict) or not isinstance(examples.get("count"), int):
        raise MalformedError("about.curvature lacks the count of its examples")
    for row in points:
        if not _is_point(row, surface.shape):
            raise MalformedError(f"about.curvature has a point {str(row)[:60]}")


def _is_point(row: Any, shape: tuple[int, int]) -> bool:
    """A row of i, j, two residuals, products, converged."""
    if not isinstance(row, list) or len(row) != 6:
        return False
    *index, high, low, products, converged = row
    on_grid = all(type(one) is int and 0 <= one < most for one, most in zip(index, shape, strict=True))
    residuals = all(one is None or (type(one) in (int, float) and one >= 0) for one in (high, low))
    return on_grid and residuals and type(products) is int and products >= 0 and type(converged) is bool
