"""Figure 2: one step of S2-SAM beside one of SAM, from real numbers on a slice of a real loss.

``python -m figures.figure2 RESULTS [--output DIR]`` reads ``RESULTS/figure2/step.json`` (`figures.steps`).
After Figure 2 of Ji et al., "A Single-Step, Sharpness-Aware Minimization is All You Need to Achieve
Efficient and Accurate Sparse Training" (2024).
"""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.roughness.conventions import conventions, differences
from figures.caption import SHOWN
from figures.product import Product, named
from figures.results import Results
from figures.sheet import LINE, Sheet, wrapped
from figures.step_panel import KEYS, draw_keys, draw_scale, draw_step, scale_of_steps
from figures.steps import Step, Steps, read_steps
from figures.style import OPTIMIZER_NAMES, PAGE, PRINT
from landscape.escaping import markdown
from landscape.plot.text import unit_of
from landscape.surface import Surface

TITLE = "Figure 2: a step of S2-SAM beside one of SAM"
EDGE, LEFT, BETWEEN, BAR = 0.06, 0.64, 0.7, 0.72  # inches
SIDE = (PAGE - LEFT - BETWEEN - BAR) / 2


def steps(results: Results) -> Steps:
    """What ``figure2/step.json`` holds."""
    return read_steps(results.root / "figure2" / "step.json")


def draw(results: Results) -> Figure:
    """The figure."""
    return draw_steps(steps(results))


def draw_steps(found: Steps) -> Figure:
    """The figure of steps that were read or made otherwise."""
    with mpl.rc_context(PRINT):
        top = EDGE + 2 * LINE + 0.05
        keys = top + SIDE + 0.42
        note = wrapped(_footer(found), PAGE - 2 * EDGE)
        height = keys + len(KEYS) // 2 * (LINE + 0.02) + 0.08 + len(note) * LINE + EDGE
        sheet = Sheet.of(PAGE, height)
        scale = scale_of_steps(found.steps)
        for number, step in enumerate(found.steps):
            left = LEFT + number * (SIDE + BETWEEN)
            sheet.text(left + SIDE / 2, EDGE, OPTIMIZER_NAMES[step.optimizer], weight="bold")
            sheet.text(left + SIDE / 2, EDGE + LINE, cost_text(step))
            draw_step(sheet.axes(left, top, SIDE, SIDE), step, scale, found.learning_rate)
        surface = found.steps[0].surface
        draw_scale(
            sheet.axes(PAGE - BAR + 0.08, top, 0.1, SIDE), scale, unit_of(surface, "loss", surface.splits[0])
        )
        draw_keys(sheet, keys)
        sheet.lines(EDGE, height - EDGE - len(note) * LINE, note, ha="left")
        return sheet.figure


def cost_text(step: Step) -> str:
    """Gradients that the step computes, and those that it has from the step before."""
    reused = sum(one.reused for one in step.gradients)
    fresh = len(step.gradients) - reused
    text = f"computes {fresh} gradient{'s' * (fresh != 1)}"
    return text + (f", reuses {reused}" if reused else "")


def _footer(found: Steps) -> str:
    off = max(step.off_plane for step in found.steps)
    where = f"At most {off:.2g} off the plane." if off else "All points lie in the plane."
    return f"{found.what} η = {found.learning_rate:g}, ρ = {found.rho:g}. {where}"


def caption(results: Results) -> str:
    """Markdown: what, learning rate, rho, how each slice was made, and every number in the picture."""
    found = steps(results)
    lines = [f"# {TITLE}", "", markdown(_footer(found))]
    for step in found.steps:
        lines += ["", f"{OPTIMIZER_NAMES[step.optimizer]}: {cost_text(step)}", ""]
        lines += [f"- {name}: {markdown(text)}" for name, text in _made(step).items() if name in SHOWN]
        first, second = map(markdown, step.axes)
        lines += ["", f"| | {first} | {second} |", "| --- | --- | --- |"]
        lines += [f"| {point} | {alpha:.9g} | {beta:.9g} |" for point, (alpha, beta) in step.points.items()]
        for one in step.gradients:
            origin = "reused, of the step from" if one.reused else "computed at"
            where = f"gradient {origin} ({one.at[0]:.9g}, {one.at[1]:.9g})"
            lines.append(f"| {where} | {one.vector[0]:.9g} | {one.vector[1]:.9g} |")
    return "\n".join(lines) + "\n"


def _made(step: Step) -> dict[str, str]:
    return conventions(step.surface, step.surface.splits[0])


def surfaces(results: Results) -> list[Surface]:
    """Those of the interactive page."""
    return [named(step.surface, OPTIMIZER_NAMES[step.optimizer]) for step in steps(results).steps]


def unlike(results: Results) -> list[str]:
    """In what the slices differ and mustn't; their planes and spans are each step's own."""
    made = [
        {name: text for name, text in _made(step).items() if name not in ("span", "directions", "mask")}
        for step in steps(results).steps
    ]
    return list(differences(made))


PRODUCT = Product("figure2", TITLE, draw, caption, surfaces, unlike)

if __name__ == "__main__":
    from figures.product_command import main

    main([PRODUCT])
