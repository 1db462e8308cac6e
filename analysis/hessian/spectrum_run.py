"""One spectrum in the making: the search for eigenvalues, then probes for trace, norm and density."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.hessian.density import SpectralDensity, finished, quadrature
from analysis.hessian.krylov import FloatArray, Krylov, SymmetricOperator, random_unit
from analysis.hessian.lanczos import Lanczos, Wanted
from analysis.hessian.probing import Probing
from analysis.hessian.trace import FIRST_PROBES
from landscape.checks.arguments import number, whole
from landscape.errors import UserError
from landscape.keeping.signals import held_back, let_through

State = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Plan:
    """What is to be found out about a spectrum.

    Attributes
    ----------
    wanted
        The eigenvalues; see `analysis.hessian.lanczos.Wanted`.
    trace_tolerance
        Products go on until the trace's standard error is this share of it; `FIRST_PROBES` at least …
    max_probes
        … and so many at most, whether they draw probes or widen the basis.
    density_probes, density_steps
        Probes of the density, and Lanczos steps from each; without probes there is no density.
    seed
        Of the start vector and of the probes.
    """

    wanted: Wanted
    trace_tolerance: float = 0.05
    max_probes: int = 100
    density_probes: int = 4
    density_steps: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        leasts = {
            "density_probes": -(2**63),
            "density_steps": -(2**63),
            "max_probes": FIRST_PROBES,
            "seed": 0,
        }
        for name, least in leasts.items():  # kept in Python's own numbers, which JSON can hold
            object.__setattr__(self, name, whole(name, getattr(self, name), least))
        if not 0 < number("trace_tolerance", self.trace_tolerance) < 1:
            raise UserError(f"trace_tolerance must lie between 0 and 1, got {self.trace_tolerance}")
        object.__setattr__(self, "trace_tolerance", float(self.trace_tolerance))
        if self.density_probes < 0 or self.density_steps < 1:
            raise UserError(
                f"density_probes {self.density_probes} and density_steps {self.density_steps}: "
                "expected at least 0 and 1"
            )

    @property
    def first(self) -> int:
        """Probes that decide whether more are needed."""
        return max(FIRST_PROBES, self.density_probes)


class SpectrumRun:
    """Everything that the plan asks for, one product at a time; the state can be taken out and put back.

    The first product of every probe of the density serves the trace as well.
    """

    def __init__(self, operator: SymmetricOperator, plan: Plan) -> None:
        self.operator, self.plan = _Products(operator), plan
        operator = self.operator
        self.search = Lanczos(operator, plan.wanted, plan.seed)
        self.probing = Probing(
            operator,
            self.search.krylov,
            first=plan.first,
            tolerance=plan.trace_tolerance,
            most=plan.max_probes,
            seed=plan.seed,
            capacity=self.search.capacity,
        )
        self.products = 0
        self._known: tuple[FloatArray, Tensor] | None = None  # at the end of the search
        self._nodes: list[FloatArray] = []
        self._weights: list[FloatArray] = []
        self._probe: Krylov | None = None
        self._whole = False  # the search has seen the whole space

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self._known is not None and not self._next_is_density and (self._whole or self.probing.done)

    @property
    def phase(self) -> str:
        """What the next product is for."""
        return "eigenvalues" if self._known is None else "density" if self._next_is_density else "trace"

    def expected(self) -> int:
        """Products in all: done, and an estimate of those to come."""
        plan = self.plan
        if self._known is None:
            left = min(_guess(self.search), plan.wanted.max_products - self.search.products)
            density = plan.density_probes * plan.density_steps
            return self.products + left + density + plan.first - plan.density_probes
        if self._whole:
            return self.products
        density = plan.density_probes - len(self._nodes)
        here = 0 if self._probe is None else self._probe.size
        drawn_for_density = density - (here > 0)
        return self.products + density * plan.density_steps - here + self.probing.left() - drawn_for_density

    def advance(self) -> None:
        """One product, which a signal may stop; what is made of it then isn't torn apart."""
        with held_back():
            self._advance()
            self.products += 1
            self.operator.used = True

    @property
    def whole(self) -> bool:
        """False once a failure has come where the state was half changed: it is good for nothing then."""
        return self.operator.used

    def _advance(self) -> None:
        if self._known is None:
            self.search.advance()
            if self.search.done:
                self._known, self._whole = self.search.known(), self.search.krylov.next is None
        elif self._next_is_density:
            self._step_density()
        else:
            self.probing.advance()

    def density(self) -> SpectralDensity | None:
        """None where no probes were planned and the search didn't find all eigenvalues by itself."""
        assert self._known is not None
        known = self._known[0]
        if not self._nodes and len(known) < self.operator.size:
            return None
        return SpectralDensity(self.operator.size, known, self._nodes, self._weights)

    def state(self) -> State:
        """All that `restore` needs, as arrays by name."""
        found: State = {
            "products": np.array([self.products, self.search.products, int(self._whole)]),
            "lengths": np.array([len(one) for one in self._nodes], dtype=np.int64),
            "nodes": np.concatenate([np.zeros(0), *self._nodes]),
            "weights": np.concatenate([np.zeros(0), *self._weights]),
        }
        found |= {f"search.{name}": value for name, value in self.search.krylov.state().items()}
        found |= {f"probing.{name}": value for name, value in self.probing.state().items()}
        if self._known is not None:
            found |= {"known.values": self._known[0], "known.vectors": self._known[1].cpu().numpy()}
        if self._probe is not None:
            found |= {f"probe.{name}": value for name, value in self._probe.state().items()}
        return found

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what `state` gave in a run of the same plan on the same operator."""
        self.products, self.search.products, whole = (int(one) for one in state["products"])
        self._whole = bool(whole)
        edges = np.cumsum(state["lengths"])[:-1]
        some = bool(len(state["lengths"]))
        self._nodes = np.split(state["nodes"], edges) if some else []
        self._weights = np.split(state["weights"], edges) if some else []
        self.search.krylov.restore(_part(state, "search."))
        self.probing.restore(_part(state, "probing."))
        known, probe = _part(state, "known."), _part(state, "probe.")
        if known:
            vectors = torch.tensor(known["vectors"])
            self._known = known["values"], vectors.to(self.operator.torch_device, self.operator.torch_dtype)
        if probe:
            self._probe = self._new_probe()
            self._probe.restore(probe)

    @property
    def _next_is_density(self) -> bool:
        return self._probe is not None or (not self._whole and len(self._nodes) < self.plan.density_probes)

    def _step_density(self) -> None:
        if self._probe is None:
            self._probe = self._new_probe()
        first = self._probe.next if self._probe.size == 0 else None
        product = self._probe.extend(self.operator)
        if first is not None:
            self.probing.take(first, product)
        if finished(self._probe, self.plan.density_steps):
            nodes, weights = quadrature(self._probe)
            self._nodes.append(nodes)
            self._weights.append(weights)
            self._probe = None

    def _new_probe(self) -> Krylov:
        assert self._known is not None
        vectors = self._known[1]
        start = random_unit(self.operator, self.plan.seed, 2, len(self._nodes))
        for _ in range(2):
            start = start - vectors.T @ (vectors @ start)
            start = start / start.norm()
        return Krylov(start, (self.plan.seed, 3, len(self._nodes)), vectors)


class _Products:
    """An operator whose products signals may stop; `used` is False while the state is changed by one."""

    def __init__(self, operator: SymmetricOperator) -> None:
        self._operator, self.used, self.products = operator, True, 0
        self.torch_device, self.torch_dtype = operator.torch_device, operator.torch_dtype

    @property
    def size(self) -> int:
        return self._operator.size

    def multiply(self, vectors: Tensor) -> Tensor:
        with let_through():
            product = self._operator.multiply(vectors)
        self.used, self.products = False, self.products + 1
        return product


def _part(state: Mapping[str, npt.NDArray[Any]], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _guess(search: Lanczos) -> int:
    """Products that the search may still need, from how fast the worst residual has fallen so far."""
    least = max(1, 2 * (search.wanted.top + search.wanted.bottom) + 10 - search.products)
    worst = search.worst() if search.products else math.inf
    if not math.isfinite(worst) or worst <= search.wanted.tolerance or worst >= 1:
        return least
    share = math.log(search.wanted.tolerance) / math.log(worst)
    return max(1, math.ceil(search.products * (share - 1)))
