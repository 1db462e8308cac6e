"""Sharpness measures, each in a file of its own; one line in MEASURES adds one.

>>> import torch
>>> from landscape.losses import regression
>>> net = torch.nn.Linear(2, 1)
>>> data = torch.ones(5, 2), torch.zeros(5, 1)
>>> found = sharpness(net, data, loss=regression, measures=["sam"])
>>> found["sam"].value > 0
True
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from analysis.sharpness.asam import asam, asam_ascent
from analysis.sharpness.ascent import search_passes
from analysis.sharpness.fisher_rao import fisher_rao
from analysis.sharpness.gaussian import gaussian, gaussian_filter, gaussian_weight
from analysis.sharpness.keskar import keskar
from analysis.sharpness.lambda_max import lambda_max, lambda_max_adaptive, lambda_max_norm2
from analysis.sharpness.measure import Measure, Settings, Sharpness
from analysis.sharpness.objective import Objective
from analysis.sharpness.sam import sam, sam_ascent
from analysis.sharpness.top_eigenvalue import EXPECTED_PRODUCTS
from landscape.compute import Data, choose_mask
from landscape.engine.modes import own_modes
from landscape.errors import UserError
from landscape.losses import Loss, classification
from landscape.parameters import TRAINABLE, ParamsChoice, moving_params
from landscape.progress import Watch, counted, watching

__all__ = ["MEASURES", "Measure", "Objective", "Settings", "Sharpness", "sharpness"]

_SEARCH = ("steps", "starts", "seed")


def _one_step(_: Settings) -> int:
    return 4


def _draws(settings: Settings) -> int:
    return 2 * settings.draws


def _eigen(_: Settings) -> int:
    return 4 * EXPECTED_PRODUCTS + 12


MEASURES: dict[str, Measure] = {
    "sam": Measure(sam, "SAM, one step", "nats", "Foret et al. 2021", ("rho",), _one_step),
    "sam_ascent": Measure(
        sam_ascent, "SAM, ascent", "nats", "Foret et al. 2021", ("rho", *_SEARCH), search_passes
    ),
    "asam": Measure(asam, "ASAM, one step", "nats", "Kwon et al. 2021", ("adaptive_rho", "eta"), _one_step),
    "asam_ascent": Measure(
        asam_ascent,
        "ASAM, ascent",
        "nats",
        "Kwon et al. 2021",
        ("adaptive_rho", "eta", *_SEARCH),
        search_passes,
    ),
    "gaussian": Measure(
        gaussian, "Gaussian", "nats", "Neyshabur et al. 2017", ("sigma", "draws", "seed"), _draws
    ),
    "gaussian_weight": Measure(
        gaussian_weight,
        "Gaussian, by weight",
        "nats",
        "Andriushchenko et al. 2023",
        ("relative_sigma", "draws", "seed"),
        _draws,
    ),
    "gaussian_filter": Measure(
        gaussian_filter,
        "Gaussian, by filter",
        "nats",
        "Bisla et al. 2022",
        ("relative_sigma", "draws", "seed"),
        _draws,
    ),
    "keskar": Measure(
        keskar, "Keskar ε-sharpness", "%", "Keskar et al. 2017", ("epsilon", *_SEARCH), search_passes
    ),
    "fisher_rao": Measure(fisher_rao, "Fisher-Rao norm", "nats", "Liang et al. 2019", (), lambda _: 4),
    "lambda_max": Measure(lambda_max, "λmax", "nats", "Cohen et al. 2021", ("seed",), _eigen),
    "lambda_max_norm2": Measure(
        lambda_max_norm2, "λmax · ‖w‖²", "nats", "Lyu et al. 2022", ("seed",), lambda _: 12
    ),
    "lambda_max_adaptive": Measure(
        lambda_max_adaptive, "λmax of |w|H|w|", "nats", "Andriushchenko et al. 2023", ("seed",), _eigen
    ),
}


@own_modes()
def sharpness(
    model: nn.Module,
    data: Data,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    settings: Settings | None = None,
    loss: Loss = classification,
    mask: Mapping[str, Tensor] | Literal["auto", "none"] | None = "auto",
    params: ParamsChoice = TRAINABLE,
    batch_size: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    progress: Watch = "auto",
) -> dict[str, Sharpness]:
    """Sharpness of a network's loss at its weights, by measure; the model stays as it is.

    Parameters
    ----------
    measures
        Names of `MEASURES`; default all.
    settings
        Radii, draws, steps, seed.
    mask
        Weights that may move, as for `landscape.compute_surface`: "auto" leaves exact zeros alone, "none" or
        None moves all.
    model, data, loss, params, batch_size, device, dtype
        See `Objective`.
    progress
        "auto" shows a bar in a terminal or a notebook, nothing elsewhere; None shows nothing; or a function
        that is called with a `landscape.progress.Progress` after every pass over the examples.

    Raises
    ------
    UserError
        For an unknown measure, settings that can't be measured, and as `Objective`.
    """
    if isinstance(measures, str) or not isinstance(measures, Iterable):
        measures = [measures]
    measures = list(measures)
    check_names(measures)
    chosen = Settings() if settings is None else settings
    if not isinstance(chosen, Settings):
        raise UserError(
            f"settings is a {type(chosen).__name__}; expected an analysis.sharpness.Settings(rho=…, …)"
        )
    chosen.check()
    objective = Objective(
        model,
        data,
        loss=loss,
        mask=choose_mask(mask, "given", moving_params(model, params))[0],
        params=params,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
    )
    expected = sum(MEASURES[name].passes(chosen) for name in measures)
    with watching(progress, "sharpness", "passes") as listener:
        objective.listener = None if listener is None else counted(listener, expected)
        return {name: MEASURES[name].compute(objective, chosen) for name in measures}


def check_names(measures: Sequence[str]) -> None:
    """Refuse what is no measure.

    Raises
    ------
    UserError
        Naming the word, and the measures there are.
    """
    for name in measures:
        if not isinstance(name, str) or name not in MEASURES:
            raise UserError(f"unknown measure {name!r}; expected one of {', '.join(MEASURES)}")
