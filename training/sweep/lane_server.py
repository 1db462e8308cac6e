"""The process whose runs take turns on a GPU: orders come in, a line of JSON each, and so do answers go out.

An order has a ``number``, the ``words`` of a training's command line and its ``log``; the answer to it, when
the run is over, the number, an exit ``code`` and, where it failed, why (``told``). What a run has to say goes
into its log, whose lock the process holds from the order on: whoever gave it may be gone, the run goes on to
its end.
"""

from __future__ import annotations

import io
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch

from landscape.commandline.claims import locked
from landscape.commandline.console import End, guarded_command, terminal
from landscape.errors import UserError
from landscape.keeping.signals import Interrupted, exit_code, name_of
from training.__main__ import parsed
from training.config import RunConfig
from training.data import TrainingData
from training.distributed import World, joined
from training.lanes import Begun, Ended, Lanes, in_a_line
from training.loop import training
from training.machine import Machine
from training.photographs import photographs
from training.precision import numerics
from training.prepare import Prepared, ready, set_up, with_data
from training.progress import TrainingProgress
from training.sweep.laned import TAKEN


@dataclass(eq=False)
class Order:
    """A run that was asked for; `file` is its log, open and locked, and takes no notice of a full disk."""

    number: int
    words: Sequence[str]
    log: Path
    file: End | None = field(default=None, repr=False)

    def open(self) -> bool:
        """Lock the log; False while another process has it."""
        descriptor = locked(self.log)
        if descriptor is None:
            return False
        self.file = End(os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace"))
        return True

    def close(self, text: str = "") -> None:
        """End the log with a line, and free it."""
        if self.file is not None:
            self.file.write(text)
            with suppress(OSError):
                self.file.close()
            self.file = None


class Server:
    """Makes the runs that are ordered.

    Parameters
    ----------
    device
        Of all of them.
    at_a_time
        How many take turns.
    answers
        Gets a line for each order.
    """

    def __init__(self, device: torch.device, at_a_time: int, answers: TextIO) -> None:
        self.device, self.at_a_time, self.answers = device, at_a_time, answers
        self.lanes = Lanes(device, at_a_time, self._begin)
        self._orders = queue.SimpleQueue[Order | None]()
        self._open = True
        self._images: tuple[Any, TrainingData] | None = None

    def serve(self, orders: TextIO) -> None:
        """Until no more can come and all are done.

        Raises
        ------
        KeyboardInterrupt
            When a signal ends the process; what the runs have saved is kept, and all are answered.
        UserError
            When the GPU is lost, and all runs with it; the same holds.
        """
        threading.Thread(target=self._read, args=(orders,), daemon=True).start()
        gpus = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=gpus):  # which every step seeds
                while self._open or self.lanes.orders:
                    self._take()
                    for end in self.lanes.round():
                        self._answer(end)
        except KeyboardInterrupt as error:
            self._leave(f"stopped by {name_of(error)}; the same command goes on", exit_code(error))
            raise
        except Exception as error:  # a fault of one run would have ended it alone
            trace = traceback.format_exc()
            self._leave(in_a_line(error), 2, trace)
            raise UserError(in_a_line(error)) from error

    def _read(self, orders: TextIO) -> None:
        """In a thread of its own: reading waits."""
        with suppress(OSError, ValueError):  # closed, or cut in the middle of a line
            for line in orders:
                told = json.loads(line)
                self._orders.put(Order(told["number"], told["words"], Path(told["log"])))
        self._orders.put(None)

    def _take(self) -> None:
        """What has been ordered meanwhile; where nothing is left to do, wait for it."""
        idle = self._open and not self.lanes.orders
        while idle or not self._orders.empty():
            order = self._orders.get()
            if order is None:
                self._open = False
            else:
                self._accept(order)
            idle = False

    def _accept(self, order: Order) -> None:
        try:
            free = order.open()
        except OSError as error:
            self._say(order, 2, f"cannot write {order.log}: {error.strerror}")
            return
        if free:
            self.lanes.waiting.append(order)
        else:
            self._say(order, TAKEN)

    def _begin(self, order: Order) -> Begun:
        config, machine = _asked(order.words)
        set_up(machine)
        prepared = self._prepared(config, machine)
        progress = TrainingProgress(
            terminal(file=order.file), images=len(prepared.data.train), batch=config.batch_size
        )
        extras = replace(prepared.extras, lanes=self.at_a_time)
        steps = training(config, prepared.data, prepared.folder, self.device, progress, extras)
        return Begun(steps, partial(numerics, config.precision))

    def _prepared(self, config: RunConfig, machine: Machine) -> Prepared:
        """With the images of the run before, where they are the same: runs of one seed follow each other."""
        key = (config.data, config.validation, config.seed, config.examples, config.image_size)
        where = (machine.data_root, machine.download, machine.workers, machine.skip_broken)
        if self._images is not None and self._images[0] == (key, where):
            return with_data(config, machine, World(), self._images[1])
        # The processes that decode them would be everybody's: one that dies shows in whichever lane computes.
        if photographs(config.data, config.image_size):
            raise UserError(f"{config.data}: photographs keep a GPU busy by one run; give --jobs, no --lanes")
        self._images = None  # before others take its place in memory
        prepared = ready(config, machine, World(), self.device)
        self._images = (key, where), prepared.data
        return prepared

    def _answer(self, end: Ended[Order]) -> None:
        end.order.close(f"{end.trace}error: {end.error}\n" if end.error else "")
        self._say(end.order, 2 if end.error else 0, end.error)

    def _leave(self, text: str, code: int, trace: str = "") -> None:
        """Leave all runs as they are."""
        unfinished = self.lanes.orders
        self.lanes.close()
        for order in unfinished:
            order.close(f"{trace}{'error: ' if code == 2 else ''}{text}\n")
            self._say(order, code, text)

    def _say(self, order: Order, code: int, told: str = "") -> None:
        answer = {"number": order.number, "code": code, "told": told}
        with suppress(OSError, ValueError):  # whoever asked is gone
            print(json.dumps(answer), file=self.answers, flush=True)


def _asked(words: Sequence[str]) -> tuple[RunConfig, Machine]:
    """What a command line says; UserError with the line that the command would have printed."""
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return parsed(words)
    except SystemExit as end:
        if end.code != 2:  # a signal that came meanwhile
            raise Interrupted(int(end.code or 0) - 128) from None
        raise UserError(told.getvalue().strip().removeprefix("error: ")) from None


def main(words: Sequence[str]) -> None:
    """Serve on standard input and output: ``DEVICE LANES``."""
    device_name, at_a_time = words
    with guarded_command(), ExitStack() as held:
        answers = held.enter_context(os.fdopen(os.dup(1), "w", encoding="utf-8"))
        os.dup2(2, 1)  # nothing else may get among the answers
        _, device = held.enter_context(joined(device_name))
        if device.type != "cuda":
            raise UserError(f"lanes share a GPU, and this is {device}; on a CPU give --jobs")
        Server(device, int(at_a_time), answers).serve(sys.stdin)


if __name__ == "__main__":
    main(sys.argv[1:])
