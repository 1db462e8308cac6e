"""A training command without training, and a way to start sweeps that can be killed.

The fake takes the options of ``python -m training`` that it needs, keeps a run's files as the real one does,
and does as ``behaviour.json`` tells it for each run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAINING = """
import json, os, shutil, sys, time
from pathlib import Path

world, options = Path(sys.argv[1]), dict(word[2:].split("=", 1) for word in sys.argv[2:] if "=" in word)
folder = Path(options["output"])
behaviour = json.loads((world / "behaviour.json").read_text()).get(folder.name, {})
settings = json.loads((world / "settings.json").read_text())[folder.name]
log, epochs = folder / "metrics.jsonl", int(options["epochs"])
first = len(log.read_text().splitlines()) if log.exists() else 0
with open(world / "starts.jsonl", "a") as file:
    start = {"run": folder.name, "pid": os.getpid(), "first": first, "words": sys.argv[2:]}
    file.write(json.dumps(start) + "\\n")

def replace(target, write):
    write(temporary := target.with_name("." + target.name + ".tmp"))
    os.replace(temporary, target)

try:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".busy").open("x").close()  # fails when another process is training this run
    replace(folder / "run.json", lambda path: path.write_text(json.dumps(settings)))
    if "together" in behaviour:  # waits until another run is there, too
        (world / f"{folder.name}.here").write_text("")
        until = time.monotonic() + 90
        while len(here := list(world.glob("*.here"))) < behaviour["together"]:
            if time.monotonic() > until:
                sys.exit(f"error: {len(here)} are here")
            time.sleep(0.01)
    if "die" in behaviour:
        print("epoch 1", file=sys.stderr, flush=True)
        os.kill(os.getpid(), behaviour["die"])
    if "fail" in behaviour:
        print("epoch 1\\nerror: " + behaviour["fail"] + "\\n", file=sys.stderr)
        sys.exit(2)
    for epoch in range(first, epochs):
        time.sleep(behaviour.get("sleep", [0.0] * epochs)[epoch])
        lines = "".join(json.dumps({"epoch": number + 1}) + "\\n" for number in range(epoch + 1))
        replace(log, lambda path: path.write_text(lines))
        (folder / "last.pt").write_text("state")
    if "silent" not in behaviour:
        replace(folder / "final.pt", lambda path: shutil.copy(world / "final.pt", path))
except KeyboardInterrupt:
    print("stopped: the same command goes on", file=sys.stderr)
    sys.exit(130)
finally:
    (folder / ".busy").unlink(missing_ok=True)
"""

SERVER = """
import json, os, sys
from training.sweep.__main__ import main

for line in sys.stdin:
    request = json.loads(line)
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        try:
            main(request["arguments"], request["training"])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        sys.stdout.flush()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass
class World:
    """A folder with the fake, a spec of two seeds and what the runs do; `root` has the results."""

    path: Path

    @property
    def root(self) -> Path:
        return self.path / "runs"

    @property
    def training(self) -> list[str]:
        return [sys.executable, "-S", "-c", TRAINING, str(self.path)]

    def behave(self, **behaviour: dict[str, Any]) -> None:
        """What the runs of seed 0 (`seed0`), … do from now on."""
        named = {name(int(key.removeprefix("seed"))): value for key, value in behaviour.items()}
        (self.path / "behaviour.json").write_text(json.dumps(named))

    def starts(self) -> list[dict[str, Any]]:
        """Every start of a training: run, process, first epoch and command line."""
        file = self.path / "starts.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def wait_for(self, what: str, seconds: float = 90) -> None:
        """Wait until a file is there that fits a pattern below the results."""
        until = time.monotonic() + seconds
        while not list(self.root.glob(what)):
            assert time.monotonic() < until, f"no {what}"
            time.sleep(0.01)


def name(seed: int) -> str:
    return f"resnet20-sample-random-0.5-sgd-seed{seed}"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Sweeps:
    """Starts sweeps as processes; one that has imported everything forks each, which takes no time."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, world: World, *arguments: str) -> int:
        """Process id of a new sweep; `world`'s ``output.txt`` has what it prints."""
        request = {
            "arguments": [str(world.path / "spec.toml"), *arguments],
            "training": world.training,
            "output": str(world.path / "output.txt"),
        }
        assert self.server.stdin
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return self._number()

    def code(self) -> int:
        """Exit code of the sweep that was started last, when it has ended."""
        return self._number()

    def _number(self) -> int:
        assert self.server.stdout
        return int(self.server.stdout.readline())

    def close(self) -> None:
        assert self.server.stdin
        assert self.server.stdout
        self.server.stdin.close()
        self.server.wait(90)
        self.server.stdout.close()


LANES = """
import json, os, subprocess, sys, threading

training, starts = json.loads(sys.argv[1]), sys.argv[2]
with open(starts, "a") as file:
    file.write(json.dumps({"pid": os.getpid(), "words": sys.argv[3:]}) + "\\n")
say, running = threading.Lock(), []

def run(order):
    with open(order["log"], "a") as log:
        process = subprocess.Popen([*training, *order["words"]], stderr=log)
    running.append(process)
    code = process.wait()
    if code < 0:  # as a lane that takes its process with it
        print("error: the GPU is lost", file=sys.stderr, flush=True)
        os._exit(3)
    with say:
        print(json.dumps({"number": order["number"], "code": code}), flush=True)

threads = []
try:
    for line in iter(sys.stdin.readline, ""):
        threads.append(threading.Thread(target=run, args=(json.loads(line),)))
        threads[-1].start()
except KeyboardInterrupt:
    for process in running:
        process.send_signal(2)
for thread in threads:
    thread.join()
"""
