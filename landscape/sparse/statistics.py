"""IR of batch statistics: sums over all blocks to the factors of batch norm, forward and backward.

Every thread computes them for itself, from the same sums in the same order, so that none has to wait.
"""

from __future__ import annotations

from landscape.sparse.elementwise import vector
from landscape.sparse.ir import Code
from landscape.sparse.machine import Element, Machine

# Entries of the context beside those of `elementwise`.
FIRST_ARENA, ARENA_STEP, BLOCKS, LAST_VALID, IMAGES = 11, 12, 13, 14, 15

FIELDS: dict[str, list[str]] = {
    "moments": [
        *("channels", "area", "sums_at", "epsilon", "gamma", "beta", "more"),
        *(*vector("pivots"), *vector("mean"), *vector("variance"), *vector("inverse")),
        *(*vector("scale"), *vector("shift"), *vector("added")),
    ],
    "coefficients": [
        *("channels", "area", "sums_at", "normalizes", "gamma"),
        *(*vector("mean"), *vector("inverse")),
        *(*vector("scale1"), *vector("scale2"), *vector("shift")),
        *(*vector("by_gamma"), *vector("by_beta")),
    ],
    "collect": ["count", *vector("sums"), *vector("out")],
}


class _Numbers:
    """Arithmetic in float64."""

    def __init__(self, code: Code) -> None:
        self.code = code

    def do(self, operation: str, a: str, b: str) -> str:
        """Of two numbers."""
        return self.code.do(f"{operation} double {a}, {b}")

    def read(self, pointer: str, index: str) -> str:
        """A number of the element type."""
        value = self.code.load(self.code.item_at(pointer, index), self.code.element)
        return value if self.code.element == "double" else self.code.do(f"fpext float {value} to double")

    def write(self, value: str, name: str, index: str) -> None:
        """The same backwards, to an array that the record names."""
        code = self.code
        if code.element == "float":
            value = code.do(f"fptrunc double {value} to float")
        code.store(value, code.item_at(code.tensor(name), index), code.element)

    def from_integer(self, value: str) -> str:
        """An i64."""
        return self.code.do(f"sitofp i64 {value} to double")

    def or_default(self, field: str, index: str, default: str) -> str:
        """A number of the array at an address that may be 0."""
        code = self.code
        cell = code.cell("double", default)
        with code.when(code.do(f"icmp ne i64 {code.field(field)}, 0")):
            code.set(cell, "double", self.read(code.pointer(code.field(field)), index))
        return code.get(cell, "double")


def _totals(code: Code, channel: str) -> tuple[str, str]:
    """A channel's two sums over all blocks and valid lanes, in the order of blocks, in float64."""
    wide = f"<{code.lanes} x double>"
    first = code.add(code.context(FIRST_ARENA), code.field("sums_at"))
    start = code.add(first, code.mul(channel, 2 * code.vector_bytes))
    cells = [code.cell(wide, "zeroinitializer") for _ in range(2)]
    blocks = code.context(BLOCKS)
    last = code.sub(blocks, 1)
    lanes = "<" + ", ".join(f"i64 {lane}" for lane in range(code.lanes)) + ">"
    kind = f"<{code.lanes} x i64>"
    with code.loop(blocks) as block:
        place = code.pointer(code.add(start, code.mul(block, code.context(ARENA_STEP))))
        is_last = code.do(f"icmp eq i64 {block}, {last}")
        valid = code.do(f"select i1 {is_last}, i64 {code.context(LAST_VALID)}, i64 {code.lanes}")
        one = code.do(f"insertelement {kind} poison, i64 {valid}, i32 0")
        every = code.do(f"shufflevector {kind} {one}, {kind} poison, <{code.lanes} x i32> zeroinitializer")
        mask = code.do(f"icmp slt {kind} {lanes}, {every}")
        for number, cell in enumerate(cells):
            value = code.choose(
                mask, code.load(code.at(place, number * code.vector_bytes)), "zeroinitializer"
            )
            if code.element == "float":
                value = code.do(f"fpext {code.vector} {value} to {wide}")
            code.set(cell, wide, code.do(f"fadd {wide} {code.get(cell, wide)}, {value}"))
    reduce = f"llvm.vector.reduce.fadd.v{code.lanes}f64"
    code.declare(f"declare double @{reduce}(double, {wide})")
    one, two = (
        code.do(f"call double @{reduce}(double 0.0, {wide} {code.get(cell, wide)})") for cell in cells
    )
    return one, two


def moments(machine: Machine, element: Element) -> Code:
    """Mean, variance, 1/σ and the factors of ``scale · z + shift`` from ``Σ (z − p)`` and ``Σ (z − p)²``.

    Where there is `more`, another vector is added to the shift: that of the other term of a sum.
    """
    code = Code("moments", machine, element, FIELDS["moments"])
    f = _Numbers(code)
    count = f.from_integer(code.mul(code.context(IMAGES), code.field("area")))
    epsilon = code.do(f"bitcast i64 {code.field('epsilon')} to double")
    pivots = code.tensor("pivots")
    code.declare("declare double @llvm.sqrt.f64(double)")
    code.declare("declare double @llvm.maximum.f64(double, double)")
    with code.loop(code.field("channels")) as channel:
        one, two = _totals(code, channel)
        apart = f.do("fdiv", one, count)
        mean = f.do("fadd", f.read(pivots, channel), apart)
        spread = f.do("fsub", f.do("fdiv", two, count), f.do("fmul", apart, apart))
        # Rounding may take it below zero; NaN stays.
        variance = code.do(f"call double @llvm.maximum.f64(double {spread}, double 0.0)")
        root = code.do(f"call double @llvm.sqrt.f64(double {f.do('fadd', variance, epsilon)})")
        inverse = f.do("fdiv", "1.0", root)
        scale = f.do("fmul", f.or_default("gamma", channel, "1.0"), inverse)
        shift = f.do("fsub", f.or_default("beta", channel, "0.0"), f.do("fmul", mean, scale))
        total = code.cell("double", shift)
        with code.when(code.do(f"icmp ne i64 {code.field('more')}, 0")):
            code.set(total, "double", f.do("fadd", shift, f.read(code.tensor("added"), channel)))
        shift = code.get(total, "double")
        results = {"mean": mean, "variance": variance, "inverse": inverse, "scale": scale, "shift": shift}
        for name, value in results.items():
            f.write(value, name, channel)
    return code


def coefficients(machine: Machine, element: Element) -> Code:
    """The factors of ``dz = scale1 · g + scale2 · z + shift`` from ``Σ g`` and ``Σ g (z − mean)``.

    With them the gradients by γ and β. Where nothing is normalized dz is g, and Σ g that by a bias.
    """
    code = Code("coefficients", machine, element, FIELDS["coefficients"])
    f = _Numbers(code)
    count = f.from_integer(code.mul(code.context(IMAGES), code.field("area")))
    normalizes = code.do(f"icmp ne i64 {code.field('normalizes')}, 0")
    means, inverses = code.tensor("mean"), code.tensor("inverse")
    with code.loop(code.field("channels")) as channel:
        one, two = _totals(code, channel)
        mean, inverse = f.read(means, channel), f.read(inverses, channel)
        by_gamma = f.do("fmul", inverse, two)
        scale1 = f.do("fmul", f.or_default("gamma", channel, "1.0"), inverse)
        product = f.do("fmul", scale1, f.do("fmul", inverse, f.do("fdiv", by_gamma, count)))
        scale2 = code.do(f"fneg double {product}")
        minus = f.do("fmul", scale1, f.do("fdiv", one, count))
        shift = f.do("fsub", f.do("fmul", product, mean), minus)
        plain = {"scale1": "1.0", "scale2": "0.0", "shift": "0.0", "by_gamma": "0.0"}
        results = {"scale1": scale1, "scale2": scale2, "shift": shift, "by_gamma": by_gamma}
        for name, value in results.items():
            chosen = code.do(f"select i1 {normalizes}, double {value}, double {plain[name]}")
            f.write(chosen, name, channel)
        f.write(one, "by_beta", channel)
    return code


def collect(machine: Machine, element: Element) -> Code:
    """``out[k]`` = the sum over the lanes of ``sums[k]``."""
    code = Code("collect", machine, element, FIELDS["collect"])
    reduce = f"llvm.vector.reduce.fadd.v{code.lanes}f{8 * code.item}"
    code.declare(f"declare {code.element} @{reduce}({code.element}, {code.vector})")
    sums, out = code.tensor("sums"), code.tensor("out")
    with code.loop(code.field("count")) as number:
        value = code.load(code.at(sums, code.mul(number, code.vector_bytes)))
        # Pairs of halves: a sum in order would wait for each addition.
        total = code.do(f"call reassoc {code.element} @{reduce}({code.element} 0.0, {code.vector} {value})")
        code.store(total, code.item_at(out, number), code.element)
    return code
