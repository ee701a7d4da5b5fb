"""What the gate costs: the same upload to a server that checks DAG files, and to one that does not."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import tree
from measure import WORK, Row, folder_and_changes, packed, paired, row, send_raw, serving, size_of

SIDES = ("warn", "off")


@row
def gate_cost() -> list[Row]:
    """With the gate and without, side by side: one changed file, and all files on a server that knows none of them."""
    folder, changed = folder_and_changes(tree.change_leaf, tree.LARGE)
    file = WORK / "gated.tar.gz"
    numbers: Iterator[int] = count(3000)

    def send(port: int) -> float:
        began = time.perf_counter()
        code = send_raw(port, file)
        seconds = time.perf_counter() - began
        assert code == 200, code
        return seconds

    def fresh(level: str) -> Callable[[], float]:
        def measure() -> float:
            with serving("gate-fresh", "--tiers", "4", "--gate", level) as server:
                return send(server.port)

        return measure

    with ExitStack() as stack:
        ports = {
            level: stack.enter_context(serving(f"gate-{level}", "--tiers", "4", "--gate", level)).port
            for level in SIDES
        }

        def again(level: str) -> Callable[[], float]:
            def measure() -> float:
                file.write_bytes(changed(next(numbers)))
                return send(ports[level])

            return measure

        file.write_bytes(packed(folder))
        for port in ports.values():
            send(port)
        one = paired(again("warn"), again("off"))
    every = paired(fresh("warn"), fresh("off"))
    of = size_of(tree.LARGE)
    return [
        (f"upload with the gate ÷ without, one line changed, {of}", "report", f"{one[0]}: {one[1]} ÷ {one[2]}"),
        (f"the same to an empty server, all {tree.LARGE.files} files checked", "report",
         f"{every[0]}: {every[1]} ÷ {every[2]}"),
    ]  # fmt: skip
