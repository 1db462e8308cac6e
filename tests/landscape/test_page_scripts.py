"""The modules of the page's script: how they are joined, and their own tests, where node is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from landscape.viewer import scripts
from landscape.viewer.scripts import ASSETS, joined

ROOT = Path(__file__).resolve().parents[2]
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(
    NODE is None, reason="no node on the PATH: the page's modules stay untested by themselves"
)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the page's assets; what was joined from the others is forgotten."""
    monkeypatch.setattr(scripts, "ASSETS", tmp_path)
    scripts.asset.cache_clear()
    joined.cache_clear()
    yield tmp_path
    scripts.asset.cache_clear()
    joined.cache_clear()


def node(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(NODE), *words], capture_output=True, text=True, check=False, timeout=300, cwd=ROOT
    )


def test_the_live_page_needs_every_module() -> None:
    names = {path.stem for path in ASSETS.glob("*.js")}
    assert set(re.findall(r"^const \$(\w+) =", joined("live"), re.MULTILINE)) == names
    assert set(re.findall(r"^const \$(\w+) =", joined("main"), re.MULTILINE)) == names - {"live"}


@needs_node
def test_joined_modules_do_what_the_modules_do(modules: Path) -> None:
    (modules / "one.js").write_text(
        "let calls = 0; // nobody else's\n"
        "export function next() {\n  calls += 1;\n  return calls;\n}\n"
        "export const [a, b] = [1, 2];\n"
        "export class Named {}\n"
    )
    (modules / "two.js").write_text(
        'import { next } from "./one.js";\n\nconst calls = "another";\n'
        "export const word = `${calls} ${next()}`;\n"
    )
    (modules / "all.js").write_text(
        'import {\n  a, b,\n  Named, next,\n} from "./one.js";\nimport { word } from "./two.js";\n'
        "console.log(word, next(), a + b, Named.name);\n"
    )
    plain = modules / "plain.cjs"
    plain.write_text(joined("all"))
    (modules / "package.json").write_text('{"type": "module"}')
    said = [node(str(modules / name)).stdout for name in ("all.js", "plain.cjs")]
    assert said == ["another 1 2 3 Named\n"] * 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('import { c } from "./one.js";\n', r"takes \['c'\] from one.js"),
        ('import { b } from "./one.js";\nimport * as all from "./one.js";\n', "expected import"),
        ("export default 3;\n", "expected import"),
        ("export let changing = 3;\n", "expected import"),
        ('import { loop } from "./three.js";\n', "two -> three -> two"),
    ],
)
def test_what_cannot_be_joined_is_said(modules: Path, text: str, says: str) -> None:
    (modules / "one.js").write_text("export const b = 2;\n")
    (modules / "three.js").write_text('import { c } from "./two.js";\nexport const loop = 1;\n')
    (modules / "two.js").write_text(text)
    with pytest.raises(ValueError, match=says):
        joined("two")


@needs_node
def test_the_modules_pass_their_own_tests() -> None:
    done = node("tests/page/all.js")
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[1]) >= 31
    listed = re.findall(r'"\./(\S+)"', (ROOT / "tests/page/all.js").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in (ROOT / "tests/page").glob("*.test.js"))
