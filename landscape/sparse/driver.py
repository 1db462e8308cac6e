"""IR of what calls the kernels: a table of records for one block of images, and phases for a whole batch.

Python calls once per block, or once per thread and pass; the rest is here, without the interpreter and
outside its lock.
"""

from __future__ import annotations

from landscape.sparse.ir import Code
from landscape.sparse.machine import Machine

RECORD = 64
"""64-bit words of a record, the kernel's address first."""
CONTEXT = 24
"""64-bit words of a context."""
PHASE = 6
"""Of a phase: address and number of the records before the blocks, for each block, and after them."""

_PATIENCE = 2000  # looks at the barrier before the processor is offered to others


def table(machine: Machine) -> Code:
    """``run(records, count, context)``: every record's kernel, in order."""
    code = Code("run", machine, "float", [])
    _run(code, "%records", "%count", "%context")
    return code


TABLE_PARAMETERS = "ptr %records, i64 %count, ptr %context"


def _run(code: Code, records: str, count: str, context: str) -> None:
    with code.loop(count) as number:
        record = code.at(records, code.mul(number, 8 * RECORD))
        kernel = code.load(record, "ptr")
        code.say(f"call void {kernel}(ptr {record}, ptr {context})")


PHASES_PARAMETERS = (
    "ptr %phases, i64 %count, ptr %contexts, i64 %first, i64 %blocks, "
    "i64 %threads, ptr %barrier, ptr %give_way"
)


def phases(machine: Machine) -> Code:
    """``run_phases(phases, count, contexts, first, blocks, threads, barrier, give_way)``, in every thread.

    Thread `first` works on the blocks `first`, `first + threads`, …; contexts are in the order of blocks.
    After each phase all threads wait for each other.
    """
    code = Code("run_phases", machine, "float", [])
    code.declare("declare void @llvm.x86.sse2.pause()") if machine.triple.startswith("x86") else None
    with code.loop("%count") as number:
        phase = code.at("%phases", code.mul(number, 8 * PHASE))
        parts = [code.load(code.at(phase, 8 * word), "i64") for word in range(PHASE)]
        own = code.at("%contexts", code.mul("%first", 8 * CONTEXT))
        _run(code, code.pointer(parts[0]), parts[1], own)
        with code.loop("%blocks", "%first", "%threads") as block:
            context = code.at("%contexts", code.mul(block, 8 * CONTEXT))
            _run(code, code.pointer(parts[2]), parts[3], context)
        _run(code, code.pointer(parts[4]), parts[5], own)
        with code.when(code.do("icmp sgt i64 %threads, 1")):
            _wait(code)
    return code


def _wait(code: Code) -> None:
    """Until all threads have come here as often as this one."""
    came = code.do("atomicrmw add ptr %barrier, i64 1 acq_rel")
    round_ = code.do(f"sdiv i64 {came}, %threads")
    goal = code.mul(code.add(round_, 1), "%threads")
    looks = code.cell("i64", "0")
    with code.forever() as done:
        now = code.do("load atomic i64, ptr %barrier acquire, align 8")
        code.leave(code.do(f"icmp sge i64 {now}, {goal}"), done)
        count = code.add(code.get(looks, "i64"), 1)
        code.set(looks, "i64", count)
        if code.machine.triple.startswith("x86"):
            code.say("call void @llvm.x86.sse2.pause()")
        with code.when(code.do(f"icmp sgt i64 {count}, {_PATIENCE}")):
            code.do("call i32 %give_way()")
