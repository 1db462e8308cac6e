"""For mkdocs: every notebook becomes a page of its cells and what they gave, and stays a file to download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add ``NAME.md`` beside each ``NAME.ipynb``, and let links to the notebook lead to it."""
    for notebook in [one for one in files if one.src_uri.endswith(".ipynb")]:
        cells = json.loads(Path(str(notebook.abs_src_path)).read_text(encoding="utf-8"))
        text = page_of(cells, notebook.name)
        files.append(File.generated(config, notebook.src_uri.removesuffix(".ipynb") + ".md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks of other pages become links to their pages."""
    return markdown if "[Download" in markdown else markdown.replace(".ipynb)", ".md)")


def page_of(notebook: dict[str, Any], name: str) -> str:
    """The notebook in Markdown."""
    cells = [_cell(cell) for cell in notebook["cells"]]
    return "\n\n".join([cells[0], f"[Download this notebook]({name}.ipynb)", *cells[1:]]) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *filter(None, map(_output, cell["outputs"]))])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        image = "".join(data["image/png"]).replace("\n", "")
        return f"![what the cell shows](data:image/png;base64,{image})"
    if "text/html" in data:
        return "".join(data["text/html"])
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
