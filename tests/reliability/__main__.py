"""Files, command lines, memory and commands at work, tried for as long as is wanted: ``make reliability``.

``python tests/reliability [PART …] [--minutes 10] [--faults 1000] [--units 10000] [--seed 0] [--json FILE]``
``python tests/reliability faults --minutes 60 --kinds killed full --commands train hessian …``

PART is one of fuzz (wrong files and command lines, for so many minutes), faults (each fault at each file
operation of each command, in random order, for so many minutes), kills (so many SIGKILLs at random moments),
memory (slopes over so many points, products and steps), mixed (commands in turn, met by every kind of fault,
for so many minutes); all by default. Everything is drawn from the seed. Exit code 1 when anything went wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), *(str(HERE.parent / one) for one in ("landscape", "training", "fuzz"))]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import memory_slopes  # noqa: E402
from forking import Running, warm  # noqa: E402
from fuzzed_commands import command_lines, ended  # noqa: E402
from fuzzed_files import Kind, changes, judged, kinds  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from operation_faults import FAULTS, Survey  # noqa: E402
from random_faults import EVERY, Mixed, save  # noqa: E402
from tiny_commands import WORKS, make_inputs  # noqa: E402

Found = dict[str, Any]
KILLED = ("surface alone", "hessian", "train", "curvature", "connectivity", "robustness")
MIXED = ("surface", "hessian", "sharpness", "train", "sweep", "curvature", "connectivity", "robustness")
ROUND = 20  # examples of a kind before the next one's turn


def fuzz(options: argparse.Namespace, inputs: Path, folder: Path) -> Found:
    """Wrong files of every kind and wrong command lines in turn."""
    read, tried, ends, wrong = folder / "read", Counter[str](), Counter[str](), list[str]()
    read.mkdir()

    def lines(what: tuple[str, list[str]]) -> str:
        found = ended(*what, inputs, folder / "work")
        ends[str(found.code)] += 1
        return found.wrong and f"{what}: {found.wrong}"

    def contents_of(kind: Kind) -> Callable[[bytes], str]:
        return lambda content: judged(kind, content, read)

    every: dict[str, tuple[Any, Callable[[Any], str]]] = {"command lines": (command_lines(), lines)}
    every |= {
        name: (changes(kind, read), contents_of(kind)) for name, kind in kinds(folder / "kinds").items()
    }
    until, number = time.monotonic() + 60 * options.minutes, options.seed
    while time.monotonic() < until:
        for name, (strategy, judge) in every.items():
            for what in _drawn(strategy, number):
                tried[name] += 1
                if bad := judge(what):
                    wrong.append(f"{name}: {bad}")
                    print(wrong[-1][:2000], flush=True)
                if time.monotonic() > until:
                    break
            number += 1
    return {"tried": dict(tried), "exit codes": dict(ends), "wrong": wrong}


def _drawn(strategy: Any, number: int) -> list[Any]:
    """Some examples, all of them drawn anew."""
    found: list[Any] = []
    plain = settings(
        max_examples=ROUND,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @plain
    @given(strategy)
    def take(what: Any) -> None:
        found.append(what)

    take()
    return found


def faults(options: argparse.Namespace, inputs: Path, folder: Path) -> Found:
    """Each fault at each file operation; a command's turn comes as often as another's."""
    survey = Survey(inputs, folder, options.commands)
    draw = random.Random(options.seed)
    cases = {
        name: [one for one in there if one.kind in options.kinds]
        for name, there in survey.by_command().items()
    }
    left = {name: draw.sample(there, len(there)) for name, there in cases.items()}
    total, until = sum(map(len, left.values())), time.monotonic() + 60 * options.minutes
    tried, wrong = Counter[str](), list[str]()
    while time.monotonic() < until and any(left.values()):
        for there in left.values():
            if there:
                case = there.pop()
                tried[case.kind] += 1
                wrong += survey.wrong(case)
    return {"operations": survey.counts, "tried": dict(tried), "of": total, "wrong": wrong}


def kills(options: argparse.Namespace, inputs: Path, folder: Path) -> Found:
    """SIGKILL at random moments."""
    found = Mixed(inputs, folder, KILLED, ("SIGKILL",), options.seed).run(math.inf, options.faults)
    return found.content()


def mixed(options: argparse.Namespace, inputs: Path, folder: Path) -> Found:
    """Every command in turn, every fault."""
    work = Mixed(inputs, folder, MIXED, EVERY, options.seed)
    return work.run(time.monotonic() + 60 * options.minutes, sys.maxsize).content()


def memory(options: argparse.Namespace, inputs: Path, folder: Path) -> Found:
    """Slopes, each in a process of its own."""
    found: Found = {"wrong": []}
    for name, work in memory_slopes.WORKS.items():
        place = folder / f"{name}.json"

        def measured(stack: ExitStack, work: Any = work, place: Path = place) -> None:
            save(vars(memory_slopes.slope(work, options.units)), place)
            os._exit(0)

        end = Running("nothing", [], folder / name, measured).ended()
        found[name] = json.loads(place.read_text()) if end.code == 0 else end.err[-500:]
        found["wrong"] += [] if end.code == 0 else [f"{name}: {end.err[-500:]}"]
        print(name, found[name], flush=True)
    return found


PARTS = {"fuzz": fuzz, "faults": faults, "kills": kills, "memory": memory, "mixed": mixed}


def main() -> int:
    """Run the parts, print what they counted, and say whether anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of fuzz, faults and mixed each")
    parser.add_argument("--faults", type=int, default=1000, help="SIGKILLs")
    parser.add_argument("--kinds", nargs="+", choices=FAULTS, default=list(FAULTS), help="of faults at files")
    each = [name for name in WORKS if name != "reproduce"]
    parser.add_argument("--commands", nargs="+", choices=each, default=each, help="whose files meet faults")
    parser.add_argument("--units", type=int, default=10_000, help="points, products, steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("reliability.json"), help="where the counts go")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {min(unknown)}; known: {', '.join(PARTS)}")
    warm()
    content: Found = {"seed": options.seed}
    with tempfile.TemporaryDirectory(prefix="reliability-") as temporary:
        folder = Path(temporary)
        (folder / "inputs").mkdir()
        sys.path.insert(0, str(folder / "inputs"))
        inputs = make_inputs(folder / "inputs")
        for name in options.parts or PARTS:
            began = time.monotonic()
            (folder / name).mkdir()
            found = PARTS[name](options, inputs, folder / name)
            content[name] = {**found, "seconds": round(time.monotonic() - began)}
            print(name, json.dumps(content[name])[:4000], flush=True)
            save(content, options.json)
    wrong = sum(len(one["wrong"]) for one in content.values() if isinstance(one, dict))
    print(f"{wrong} went wrong" if wrong else "nothing went wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
