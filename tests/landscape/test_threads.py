"""Several threads at once: surfaces, and a user's own calls of modules beside them."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

import torch
from small_network import bits, examples, small_network
from torch import fx, nn

from landscape.compute import compute_surface
from landscape.engine.tracing import trace

THREADS, CALLS = 4, 8


def test_surfaces_in_several_threads_are_those_of_one() -> None:
    model, data = small_network(), examples()
    expected = bits(compute_surface(model, data, points=3, device="cpu"))
    inputs, stop = torch.randn(2, 1, 6, 6), Event()

    def user() -> bool:
        """Calls a module of its own, whatever is traced meanwhile."""
        mine = copy.deepcopy(model).eval()
        first, same = mine(inputs), True
        while not stop.is_set():
            same = same and torch.equal(mine(inputs), first)
        return same

    with ThreadPoolExecutor(THREADS + 1) as pool:
        calling = pool.submit(user)
        runs = [
            pool.submit(compute_surface, model, data, points=3, device="cpu") for _ in range(THREADS * CALLS)
        ]
        wait(runs)
        stop.set()
        assert calling.result()
        assert all(bits(run.result()) == expected for run in runs)


def test_traces_in_several_threads() -> None:
    before = nn.Module.__call__, nn.Module.__getattr__
    inputs = torch.randn(5, 1, 6, 6)
    models = [small_network(seed).eval() for seed in range(40)]
    with ThreadPoolExecutor(THREADS) as pool:
        traced = list(pool.map(trace, models))
    for model, graph in zip(models, traced, strict=True):
        assert isinstance(graph, fx.GraphModule)
        assert torch.equal(graph(inputs), model(inputs))
    assert (nn.Module.__call__, nn.Module.__getattr__) == before
