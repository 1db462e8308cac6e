"""Surfaces on one self-contained HTML page: `view` and `Page`.

The page holds the numbers as one JSON block, style and scripts from ``assets`` beside this file, and Plotly's
JavaScript from the installed ``plotly`` package (its full bundle: the smaller 3D one lacks contours and heat
maps), gzipped and in base64 because that makes the page 2 MB instead of 5; the browser unpacks it. Nothing is
fetched, and the page's content security policy forbids it: only these two scripts run, known by their
hashes, so that no name in a file can become code.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from landscape.errors import UserError
from landscape.files import atomic_path
from landscape.surface import Surface
from landscape.viewer.page_data import Json, payload
from landscape.viewer.scripts import asset, joined


@dataclass(frozen=True)
class Page:
    """A finished page.

    Attributes
    ----------
    html
        The whole document; UTF-8 when written.
    title
        Its title.
    """

    html: str = field(repr=False)  # a notebook keeps the text beside the frame: megabytes, once more
    title: str

    def save(self, path: str | Path) -> Path:
        """Write the page in one step; an earlier file stays whole if that fails (UserError)."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.html, encoding="utf-8", errors="backslashreplace")
        return Path(path)

    def open(self) -> Path:
        """Save the page in a new temporary folder and show it in the user's browser."""
        path = self.save(Path(mkdtemp(prefix="sharpscape-")) / "surfaces.html")
        webbrowser.open(path.as_uri())
        return path

    def _repr_html_(self) -> str:
        """Jupyter: a sandboxed frame, so that the page and the notebook can't touch each other."""
        return (
            f'<iframe title="{html.escape(self.title)}" srcdoc="{html.escape(self.html)}" '
            'sandbox="allow-scripts allow-downloads" style="width:100%;height:820px;border:0"></iframe>'
        )


def view(
    surfaces: Sequence[Surface],
    *,
    metrics: Sequence[Mapping[str, Any]] | None = None,
    title: str | None = None,
) -> Page:
    """One interactive page of one or many surfaces, side by side.

    Parameters
    ----------
    surfaces
        In the order shown. Their grids, planes and splits may differ; lines share one chart.
    metrics
        Rows of the table, one mapping per surface: column name to a number, a text, or
        ``(value, low, high)`` with a 95 % interval. Default: `landscape.surface.summary.metrics` of each.
    title
        Heading of the page; default made from the labels.

    Raises
    ------
    UserError
        Without any surface, or when `metrics` has another length.
    """
    surfaces = list(surfaces)
    if not surfaces:
        raise UserError("no surface to show; expected at least one")
    if metrics is None:
        from landscape.surface.summary import metrics as summarize

        metrics = [summarize(surface) for surface in surfaces]
    if len(metrics) != len(surfaces):
        raise UserError(
            f"{len(metrics)} rows of metrics for {len(surfaces)} surfaces; expected one per surface"
        )
    title = title or heading(surfaces)
    return Page(render(title, payload(surfaces, metrics)), title)


def heading(surfaces: Sequence[Surface]) -> str:
    """The title of a page that was given none."""
    labels = " · ".join(surface.label for surface in surfaces)
    return labels if len(surfaces) == 1 or len(labels) <= 72 else "Loss landscapes"


def render(title: str, data: Json, *, live: bool = False) -> str:
    """The document; a live one, and only that, may ask the server that it came from for news."""
    plotly, packed = _plotly()
    script = joined("live" if live else "main")
    # Sources are hashes: injected code could not run even if a name got past the escaping.
    policy = (
        f"default-src 'none'; script-src '{source_hash(script)}' '{plotly}'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'" + ("; connect-src 'self'" if live else "")
    )
    parts = {
        "title": html.escape(title).encode("ascii", "xmlcharrefreplace").decode(),
        "policy": policy,
        "style": asset("viewer.css") + (asset("live.css") if live else ""),
        "payload": _script_json(data),
        "plotly": packed,
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], asset("viewer.html"))


def _script_json(data: Json) -> str:
    """JSON that no HTML parser can leave: ASCII only, with ``<``, ``>`` and ``&`` escaped."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _plotly() -> tuple[str, str]:
    """Plotly's bundle without importing Plotly: the hash of the source, and the source packed."""
    package = find_spec("plotly")
    if package is None or package.origin is None:
        raise UserError("the package plotly isn't installed; the viewer needs it: pip install plotly")
    source = (Path(package.origin).parent / "package_data" / "plotly.min.js").read_bytes()
    source = source.replace(b"\r\n", b"\n")
    packed = base64.b64encode(gzip.compress(source, 9, mtime=0)).decode()
    return source_hash(source.decode()), packed


def source_hash(source: str) -> str:
    """A script as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def told_apart(files: Sequence[Path], surfaces: Sequence[Surface]) -> list[Surface]:
    """Surfaces of one label, often "final", are called by their files, or those in folders by both."""
    labels = [surface.label for surface in surfaces]
    alike = [file.absolute() for file, label in zip(files, labels, strict=True) if labels.count(label) > 1]
    length = 1
    while len({one.parts[-length:] for one in alike}) < len(set(alike)):
        length += 1

    def name(file: Path) -> str:
        return re.sub(r"(\.surface)?\.h5$", "", "/".join(file.absolute().parts[-length:]))

    return [
        surface
        if labels.count(label) == 1
        else replace(surface, about={**surface.about, "label": name(file)})
        for label, file, surface in zip(labels, files, surfaces, strict=True)
    ]
