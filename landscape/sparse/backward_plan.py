"""The backward program: from the gradient by the result to those by kept weights and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from landscape.sparse.batch_plan import BatchPlan, Layer, list_fields, sizes
from landscape.sparse.kernels import Record
from landscape.sparse.layout import ARENA, THREAD, Form, Place, cover
from landscape.sparse.lists import backward_border, backward_list
from landscape.sparse.slots import Phases, Slot, give_places
from landscape.sparse.units import Activation, Convolution, Other, Term, Unit


@dataclass(frozen=True)
class Contribution:
    """What one reader adds to the gradient by a value.

    Attributes
    ----------
    kind
        "result", "convolution", "plain" (another activation's gradient as it is), or of a pooling,
        subsample or flatten.
    phase
        From which on it can be computed.
    slot
        The reader's gradient.
    layer, gradient
        The convolution, and where the gradient by its output lies.
    """

    kind: str
    phase: int
    slot: Slot | None = None
    layer: Layer | None = None
    gradient: Place | None = None
    reader: Other | None = None


class BackwardPlan:
    """Writes the program; see `BatchPlan` for the forward one.

    A value's gradient is complete when its last reader has added to it. If that is a convolution, its kernel
    also applies the ReLU's mask and takes the sums for the batch norm below.
    """

    def __init__(self, plan: BatchPlan, input_gradient: bool) -> None:
        self.plan, self.kernels = plan, plan.kernels
        self.input_gradient = input_gradient
        self.phases = Phases()
        self.slots: list[Slot] = []
        self.contributions: dict[int, list[Contribution]] = {one.number: [] for one in plan.units}
        self.gradient: dict[int, Slot | None] = {}
        self.ready: dict[int, int] = {}
        self._again: dict[tuple[int, int], Place] = {}
        self._sums: dict[int, int] = {}
        self._nothing: dict[int, Layer] = {}
        self.contributions[plan.output].append(Contribution("result", 0))
        for one in reversed(plan.units):
            self._unit(one)
        give_places(self.slots, plan.arena, plan.vector)
        self.sums_at = plan.thread.take(max([1, *self._sums.values()]), plan.vector)

    def _unit(self, one: Unit) -> None:
        if isinstance(one, Convolution):
            self._convolution(one)
            return
        wanted = self.input_gradient or not (isinstance(one, Other) and one.operation.kind == "input")
        if not wanted or not self.contributions[one.number]:
            return
        self._finish(one)
        if isinstance(one, Activation):
            self._activation(one)
        else:
            self._other(one)

    def _slot(self, form: Form, phase: int) -> Slot:
        slot = Slot(form).use(phase)
        self.slots.append(slot)
        return slot

    # -- the gradient by a value --------------------------------------------------------------------------

    def _finish(self, one: Activation | Other) -> None:
        """Sum up the contributions; mask and sums where they belong."""
        parts = sorted(
            self.contributions[one.number], key=lambda part: (part.phase, part.kind == "convolution")
        )
        phase = parts[-1].phase
        self.ready[one.number] = phase
        gated = isinstance(one, Activation)
        last = parts.pop() if parts[-1].kind == "convolution" else None
        so_far: Slot | None = None
        own = False
        for part in parts:
            so_far, own = self._add(one, part, so_far, own)
        if last is not None:
            self.gradient[one.number] = self._gate(one, last, so_far, phase)
        elif gated:
            self.gradient[one.number] = self._gate(one, None, so_far, phase)
        else:
            self.gradient[one.number] = so_far

    def _add(
        self, one: Activation | Other, part: Contribution, so_far: Slot | None, own: bool
    ) -> tuple[Slot, bool]:
        """Add a contribution to what there is; whether that memory is this value's own."""
        phase, plan = part.phase, self.plan
        block = self.phases[phase].block
        if part.kind == "plain":
            assert part.slot is not None
            if so_far is None:
                return part.slot.use(phase), False
            before, added, slot = so_far.use(phase), part.slot.use(phase), self._slot(one.form, phase)
            block.append(lambda: [plan.copy(before.place, slot.place, added.place)])
            return slot, True
        if part.kind == "result":
            slot = self._slot(one.form, phase)
            fields = sizes(one.form)
            block.append(lambda: [self.kernels.simple("pack_gradient", fields | slot.place.view("out"))])
            return self._joined(slot, so_far, phase), True
        if part.kind == "flatten":
            assert part.slot is not None
            view, slot = part.slot.use(phase), self._slot(one.form, phase)
            earlier = so_far.use(phase) if so_far is not None else None
            block.append(
                lambda: [
                    plan.copy(
                        _unflattened(view.place, one.form, plan.vector),
                        slot.place,
                        earlier.place if earlier is not None else None,
                    )
                ]
            )
            return slot, True
        if part.kind == "convolution":
            return self._gate(one, part, so_far, phase, plain=True), True
        assert part.slot is not None
        part.slot.use(phase)
        slot = so_far if so_far is not None and own else self._slot(one.form, phase)
        slot.use(phase)
        if so_far is None:
            block.append(lambda: [plan.zero(ARENA, slot.place.at, one.form.numbers)])
        elif not own:
            source = so_far.use(phase)
            block.append(lambda: [plan.copy(source.place, slot.place)])
        block.append(lambda: self._spread(one, part, slot))
        return slot, True

    def _joined(self, slot: Slot, so_far: Slot | None, phase: int) -> Slot:
        """Both in one."""
        if so_far is None:
            return slot
        before, joined = so_far.use(phase), self._slot(slot.form, phase)
        self.phases[phase].block.append(lambda: [self.plan.copy(before.place, joined.place, slot.place)])
        return joined

    def _spread(self, one: Activation | Other, part: Contribution, slot: Slot) -> list[Record]:
        """Through a pooling or a subsample, added to what is there."""
        reader, plan = part.reader, self.plan
        assert reader is not None
        assert part.slot is not None
        given, goal = part.slot.place, slot.place
        if part.kind == "subsample":
            rows, columns, before = reader.operation.before
            inner = Form(one.form.channels, reader.form.height, reader.form.width)
            target = goal.every(rows, columns, inner)
            return [plan.copy(given.moved(before).every(1, 1, inner), target, target)]
        fields = sizes(reader.form) | goal.view("out") | plan.windows(reader)
        if part.kind == "average":
            return [self.kernels.simple("average_back", fields | given.view("one"))]
        del fields["shares"]
        source, best = plan.values[one.number], plan.values[reader.number]
        views = source.view("one") | best.view("largest") | given.view("gradient")
        return [self.kernels.simple("largest_back", fields | views)]

    def _gate(
        self,
        one: Activation | Other,
        part: Contribution | None,
        so_far: Slot | None,
        phase: int,
        plain: bool = False,
    ) -> Slot:
        """A convolution's contribution added to the rest; at the end of an activation, mask and sums, too."""
        slot, block = self._slot(one.form, phase), self.phases[phase].block
        added = None if so_far is None else so_far.use(phase)
        closes = isinstance(one, Activation) and not plain
        act = self._value(one.number, phase) if closes else None
        if closes:
            assert isinstance(one, Activation)
            for term in one.counted:
                sums = self.plan.counted[term].sums_back
                block.append(partial(self._no_sums, sums, one.form.channels))

        def emit() -> list[Record]:
            fields = {"channels": one.form.channels}
            streams = {"out": slot.place}
            if added is not None:
                fields["added"], streams["add"] = 1, added.place
            if closes:
                assert isinstance(one, Activation)
                fields |= self._closing(one)
                if one.relu and act is not None:
                    fields["masked"], streams["act"] = 1, act
                for number, term in enumerate(one.counted, 1):
                    streams[f"z{number}"] = self.plan.z[term.source]
            return self._input_gradient(one.form, part, fields, streams)

        block.append(emit)
        return slot

    def _no_sums(self, at: int, channels: int) -> list[Record]:
        return [self.plan.zero(ARENA, at, 2 * channels)]

    def _closing(self, one: Activation) -> dict[str, int]:
        """Where the sums for batch norm go."""
        fields = {"norms": len(one.counted)}
        for number, term in enumerate(one.counted, 1):
            counted = self.plan.counted[term]
            pivots = counted.at["mean"] if term.kind == "norm" else self.plan.zeros
            fields |= {
                f"sums{number}_space": ARENA,
                f"sums{number}_at": counted.sums_back,
                f"pivots{number}_space": THREAD,
                f"pivots{number}_at": pivots,
            }
        return fields

    def _input_gradient(
        self, form: Form, part: Contribution | None, fields: dict[str, int], streams: dict[str, Place]
    ) -> list[Record]:
        """The transposed convolution, one class of positions after the other; or nothing but the epilogue."""
        most = self.kernels.machine.tile
        if part is None:
            kept = self._empty(form.channels)
            source = next(iter(streams.values()))
            return [
                self.kernels.convolve(
                    "gradient",
                    piece,
                    (1, 1),
                    fields | kept | source.stream("in", piece) | _all_streams(streams, piece, 1, 1),
                )
                for piece in cover(form.height, form.width, most)
            ]
        layer, gradient = part.layer, part.gradient
        assert layer is not None
        assert gradient is not None
        rows, columns = layer.unit.geometry.stride
        found = []
        for parity, kept_list, values, _ in layer.back:
            height, width = -(-(form.height - parity[0]) // rows), -(-(form.width - parity[1]) // columns)
            moved = {name: place.moved(0, *parity) for name, place in streams.items()}
            for piece in cover(height, width, most):
                places = gradient.stream("in", piece) | _all_streams(moved, piece, rows, columns)
                record = fields | list_fields(kept_list, values) | places
                found.append(self.kernels.convolve("gradient", piece, (1, columns), record))
        return found

    def _empty(self, channels: int) -> dict[str, int]:
        """An empty list for every channel."""
        starts = torch.zeros(channels + 1, dtype=torch.int32)
        address = self.plan.absolute(starts)
        return {"starts": address, "offsets": address, "values": address}

    def _value(self, number: int, phase: int) -> Place:
        """An activation in a phase of this program, computed again if it isn't stored."""
        plan = self.plan
        if number not in plan.recomputed:
            return plan.values[number]
        if (number, phase) not in self._again:
            one = plan.by_number[number]
            assert isinstance(one, Activation)
            # Lists of the forward pass hold for it: same form, same border.
            out = plan.scratch.place(("backward", phase), one.form, plan.borders[number])
            self._again[number, phase] = out
            self.phases[phase].block.append(lambda: [plan.activate(one, out)])
        return self._again[number, phase]

    # -- units --------------------------------------------------------------------------------------------

    def _activation(self, one: Activation) -> None:
        """Hand the gradient on to plain terms; sums of the others become factors in the next phase."""
        slot, phase = self.gradient[one.number], self.ready[one.number]
        assert slot is not None
        for term in one.terms:
            if term.kind == "plain":
                self.contributions[term.source].append(Contribution("plain", phase, slot))
            else:
                self.phases[phase + 1].begin.append(partial(self._coefficients, term))

    def _coefficients(self, term: Term) -> list[Record]:
        counted = self.plan.counted[term]
        at = counted.at
        fields = {
            "channels": counted.channels,
            "area": counted.area,
            "sums_at": counted.sums_back,
            "normalizes": int(term.kind == "norm"),
            "gamma": counted.own["gamma"].data_ptr(),
        }
        names = {name: name for name in ("mean", "inverse", "scale1", "scale2", "by_gamma", "by_beta")}
        for name, stored in (names | {"shift": "shift_back"}).items():
            fields |= {f"{name}_space": THREAD, f"{name}_at": at[stored]}
        return [self.kernels.simple("coefficients", fields)]

    def _other(self, one: Other) -> None:
        slot, phase, operation = self.gradient[one.number], self.ready[one.number], one.operation
        assert slot is not None
        if operation.kind == "input":
            fields = sizes(one.form)
            slot.use(phase)
            self.phases[phase].block.append(
                lambda: [self.kernels.simple("unpack", fields | slot.place.view("one"))]
            )
            return
        part = Contribution(operation.kind, phase, slot, reader=one)
        self.contributions[operation.inputs[0]].append(part)

    def _convolution(self, one: Convolution) -> None:
        """Gradients by the output, by kept weights, and a contribution to that by the input."""
        plan, layer = self.plan, self.plan.layers[one.number]
        reader = plan.activation_of[one.number]
        if reader.number not in self.ready:
            return
        term = next(term for term in reader.counted if term.source == one.number)
        phase = self.ready[reader.number] + 1
        given = self.gradient[reader.number]
        assert given is not None
        given.use(phase)
        source = plan.by_number[one.source]
        border = backward_border(one.geometry, source.form, one.form)
        gradient = plan.scratch.place(("backward", phase), one.form, border)
        self.phases[phase].block.append(lambda: [self._by_output(term, given, gradient)])
        if one.module:
            self._by_weights(layer, gradient, phase)
        if isinstance(source, Other) and source.operation.kind == "input" and not self.input_gradient:
            return
        self._turn_around(layer, gradient)
        part = Contribution("convolution", phase, layer=layer, gradient=gradient)
        self.contributions[one.source].append(part)

    def _by_output(self, term: Term, given: Slot, out: Place) -> Record:
        at, z = self.plan.counted[term].at, self.plan.z[term.source]
        vectors = {"scale1": "scale1", "scale2": "scale2", "shift": "shift_back"}
        fields = self.plan.pass_fields(given.place, z, out)
        for name, stored in vectors.items():
            fields |= {f"{name}_space": THREAD, f"{name}_at": at[stored]}
        fields |= {"masked": 1, "two": int(term.kind == "norm")}
        return self.kernels.combine(out.form.width, fields)

    def _by_weights(self, layer: Layer, gradient: Place, phase: int) -> None:
        """Sums over all of a thread's blocks, vector by vector, then over lanes."""
        plan, unit, count = self.plan, layer.unit, len(layer.kept)
        layer.gradient_at = plan.take(max(1, count))
        offset = self._sums.get(phase, 0)
        self._sums[phase] = offset + count
        value = self._value(unit.source, phase)
        geometry = unit.geometry
        origin = value.moved(0, -geometry.before[0], -geometry.before[1])

        def place() -> dict[str, int]:
            return {"sums_space": THREAD, "sums_at": self.sums_at + offset * plan.vector}

        def emit() -> list[Record]:
            fields = place() | {
                "channels": unit.form.channels,
                "starts": layer.kept.starts.ctypes.data,
                "offsets": layer.kept.offsets.ctypes.data,
            }
            return [
                self.kernels.weight_gradient(
                    piece,
                    geometry.stride[1],
                    fields | origin.stream("in", piece, *geometry.stride) | gradient.stream("out", piece),
                )
                for piece in cover(unit.form.height, unit.form.width, self.kernels.machine.tile)
            ]

        def collect() -> list[Record]:
            out = {"out_space": THREAD, "out_at": layer.gradient_at, "count": count}
            return [self.kernels.simple("collect", place() | out)]

        self.phases[phase].begin.append(lambda: [plan.zero(THREAD, place()["sums_at"], count)])
        self.phases[phase].block.append(emit)
        self.phases[phase].end.append(collect)

    def _turn_around(self, layer: Layer, gradient: Place) -> None:
        """Lists for the gradient by the input."""
        geometry, form = layer.unit.geometry, self.plan.by_number[layer.unit.source].form
        for row in range(min(geometry.stride[0], form.height)):
            for column in range(min(geometry.stride[1], form.width)):
                kept = backward_list(layer.mask, geometry, (row, column), gradient)
                values = torch.ones(max(1, len(kept)), dtype=self.plan.dtype)[: len(kept)]
                layer.back.append(((row, column), kept, values, torch.from_numpy(kept.order)))


def _unflattened(place: Place, form: Form, vector: int) -> Place:
    """A vector of features as the tensor without a border that it was."""
    row = form.width * vector
    return Place(place.space, place.at, row, form.height * row, vector, form)


def _all_streams(places: dict[str, Place], piece: object, rows: int, columns: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, place in places.items():
        found |= place.stream(name, piece, rows, columns)  # type: ignore[arg-type]
    return found
