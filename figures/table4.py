"""Table 4: images per second of training with the original optimizer, S2-SAM and SAM, by method.

``python -m figures.table4 RESULTS [--output DIR]``. From the files of ``tests/benchmarks/bench_optimizers.py
--record`` in ``RESULTS/throughput``: optimizers in turn on one machine, ratios turn by turn. Needs no torch.
"""

from __future__ import annotations

from figures.finished import OPTIMIZERS
from figures.networks import MODELS, method_name
from figures.results import Results
from figures.style import OPTIMIZER_NAMES
from figures.table_product import TableProduct
from figures.tabular import NOT_RUN, NOTHING, Column, Entry, Grid, Line, between
from figures.throughput import FIRST, Race, Throughput, throughputs

TITLE = "Table 4: training speed with S2-SAM and SAM"
METHODS = ("grasp", "rigl", "mest_em")
PAPER = "four RTX A6000, as in the paper"
COLUMNS = (
    *(Column("images per second", OPTIMIZER_NAMES[name], name) for name in OPTIMIZERS),
    *(Column("rate, of the original's", OPTIMIZER_NAMES[name], f"rate_{name}") for name in OPTIMIZERS[1:]),
    Column("", "a step with a new mask", "change"),
)
READING = (
    "Images per second of the median turn; rates are medians of the ratios turn by turn with their 95 % "
    "intervals. The last column: what a step in which the mask changes takes, in other steps; no turn "
    "holds one."
)


def grids(results: Results) -> list[Grid]:
    """One grid of all machines and networks; the paper's machine stands empty."""
    found = throughputs(results.root)
    lines = [_line(one, race) for one in found for race in one.races]
    lines.append(
        Line((f"ResNet-50, {PAPER}", ", ".join(map(method_name, METHODS)), ""), (NOT_RUN,) * len(COLUMNS))
    )
    notes = [READING, *dict.fromkeys(_how(one) for one in found)]
    heads = ("network", "method", "sparsity")
    return [Grid("Training speed", heads, COLUMNS, tuple(lines), tuple(notes))]


def _title(one: Throughput) -> str:
    kernels = {race.kernels for race in one.races}
    return f"{MODELS.get(one.network, one.network)}, {one.side} px, {', '.join(sorted(kernels))} kernels"


def _how(one: Throughput) -> str:
    turns = min(len(race.seconds[FIRST]) for race in one.races) if one.races else 0
    clock = "processor time" if one.clock == "processor" else "wall-clock time"
    threads = f"{one.threads} thread{'s' if one.threads > 1 else ''}"
    versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
    load = " and ".join(f"{number:.1f}" for number in one.load)
    return (
        f"{_title(one)}: {one.device}, {threads}, {clock}, {one.precision}, batches of {one.batch_size}, "
        f"{turns} turns of {one.steps} steps, {versions}; load of the machine before and after {load}."
    )


def _line(one: Throughput, race: Race) -> Line:
    rates = [_rate(one, race, name) for name in OPTIMIZERS]
    ratios = [_ratio(race, name) for name in OPTIMIZERS[1:]]
    sparsity = f"{100 * race.sparsity:g} %" if race.sparsity else ""
    return Line((_title(one), method_name(race.method), sparsity), (*rates, *ratios, _change(one, race)))


def _rate(one: Throughput, race: Race, optimizer: str) -> Entry:
    if optimizer not in race.seconds:
        return NOT_RUN
    value, turns = one.rate(race, optimizer), len(race.seconds[optimizer])
    return Entry(f"{value:.0f}" if value >= 100 else f"{value:.1f}", value=value, over="turns", n=turns)


def _ratio(race: Race, optimizer: str) -> Entry:
    if optimizer not in race.seconds:
        return NOT_RUN
    return between(*race.ratio(optimizer), ".3f", "turns", len(race.seconds[optimizer]))


def _change(one: Throughput, race: Race) -> Entry:
    if not race.change_seconds:
        return NOTHING
    ratio = race.change_ratio(one.steps)
    often = f"every {race.change_every:,} steps" if race.change_every else "once"
    return Entry(f"× {ratio:.2f}", f"({often})", ratio, over="turns", n=len(race.change_seconds))


PRODUCT = TableProduct("table4", TITLE, grids)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
