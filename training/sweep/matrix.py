"""One [[matrix]] of a spec to its runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from landscape.errors import UserError
from training.config import Recipe, RunConfig, run_name
from training.models import full_arguments
from training.optimizers import OPTIMIZERS
from training.sparsity import METHODS
from training.sweep.length import planned_epochs
from training.sweep.planned import PlannedRun, data_name
from training.sweep.settings import (
    Options,
    build,
    check_known,
    list_of,
    normalized,
    option_names,
    table,
    tokens,
)

_KEYS = {"methods", "sparsities", "optimizers", "recipe"}
_OF_THE_MATRIX = {"seed", "method", "optimizer", "sparsity"}  # never options of a recipe


class Block:
    """One [[matrix]] with what the rest of the spec says about it."""

    def __init__(
        self, content: Mapping[str, Any], block: Mapping[str, Any], where: str, data: str | None
    ) -> None:
        check_known(block, _KEYS, where, "key")
        self.content, self.where = content, where
        self.methods = list_of(block.get("methods"), str, where, "methods")
        self.optimizers = list_of(block.get("optimizers"), str, where, "optimizers")
        check_known(self.methods, METHODS, where, "method")
        check_known(self.optimizers, OPTIMIZERS, where, "optimizer")
        self.sparsities = self._sparsities(block)
        own = table(block, "recipe", where)
        check_recipe(own, self.methods, self.optimizers, where)
        self.recipe = normalized(table(content, "recipe", where)) | normalized(own)
        if data is not None:
            self.recipe["data"] = data

    def _sparsities(self, block: Mapping[str, Any]) -> list[float]:
        pruning = [name for name in self.methods if "sparsity" in option_names(METHODS[name])]
        given = block.get("sparsities", [])
        if pruning:
            return list_of(given, float, f"{self.where}: {pruning[0]} needs", "sparsities")
        if given:
            raise UserError(
                f"{self.where}: sparsities are given, but {self.methods[0]} takes none; remove them"
            )
        return []

    @property
    def count(self) -> int:
        """Runs for each seed."""
        pruning = sum("sparsity" in option_names(METHODS[name]) for name in self.methods)
        plain = len(self.methods) - pruning
        return len(self.optimizers) * (pruning * len(self.sparsities) + plain)

    def runs(self, seed: int) -> Iterator[PlannedRun]:
        """All combinations; a method that takes no sparsity has one run for each optimizer."""
        for method, optimizer in itertools.product(self.methods, self.optimizers):
            takes = "sparsity" in option_names(METHODS[method])
            for sparsity in self.sparsities if takes else (None,):
                masking = self._options("method", method, METHODS[method])
                if sparsity is not None:
                    masking["sparsity"] = sparsity
                yield self._run(method, masking, optimizer, seed)

    def _run(self, method: str, masking: Options, optimizer: str, seed: int) -> PlannedRun:
        recipe = {name: value for name, value in self.recipe.items() if name in option_names(Recipe)}
        recipe["seed"] = seed
        stepping = self._options("optimizer", optimizer, OPTIMIZERS[optimizer])
        plain = build(Recipe, recipe, self.where)
        try:
            config = RunConfig(
                **vars(plain),
                method=build(METHODS[method], masking, f"method {method}"),
                optimizer=build(OPTIMIZERS[optimizer], stepping, f"optimizer {optimizer}"),
            )
            full_arguments(config.model, config.model_arguments(num_classes=10))
            settings = config.to_dict(data_name(config.data))
            epochs = planned_epochs(config)
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from error
        arguments = (
            *tokens(Recipe, recipe),
            *(f"--method={method}", *tokens(METHODS[method], masking)),
            *(f"--optimizer={optimizer}", *tokens(OPTIMIZERS[optimizer], stepping)),
        )
        plain_settings = json.loads(json.dumps(settings))  # tuples become lists, as in run.json
        return PlannedRun(run_name(settings), config, plain_settings, epochs, arguments)

    def _options(self, what: str, name: str, kind: type) -> Options:
        """Options of a method or an optimizer: what the recipe says about them, then their own table."""
        names = option_names(kind) - option_names(Recipe)
        common = {key: value for key, value in self.recipe.items() if key in names}
        return common | normalized(table(self.content, what, self.where).get(name, {}))


def check_recipe(
    recipe: Mapping[str, Any], methods: Iterable[str], optimizers: Iterable[str], where: str
) -> None:
    """Refuse an option that neither a run, nor one of these methods and optimizers has."""
    known = option_names(Recipe).union(
        *(option_names(METHODS[name]) for name in methods),
        *(option_names(OPTIMIZERS[name]) for name in optimizers),
    )
    check_known(normalized(recipe), known - _OF_THE_MATRIX, f"{where}: recipe", "option")
