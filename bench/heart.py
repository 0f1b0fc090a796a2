"""When the event loop does not come round, for how long, and why."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass, replace

BLOCK = 0.1
BEAT = 0.01


@dataclass(frozen=True)
class Block:
    """A time in which the event loop did not come round. In seconds."""

    began: float
    """By a clock that counts from the heart's first beat."""
    late: float
    collector: float
    """What Python's garbage collector took of it: it goes through all objects of the process."""
    worked: float
    """For how long the loop's thread was on its core."""
    where: str
    """Where the loop was, each time that was looked at."""
    machine: float = 0.0
    """For how long nobody got that core: a process beside it, which does nothing but beat, did not either."""

    @property
    def by_code(self) -> float:
        """What is left for the code that ran on the loop."""
        return self.late - self.collector - self.machine

    def __str__(self) -> str:
        shares = (round(each * 1000) for each in (self.late, self.collector, self.machine, self.worked))
        told = "{} ms, {} of them the garbage collector, {} the machine; {} on a core".format(*shares)
        return f"after {self.began:.1f} s: {told}\n{self.where}"


class Heart:
    """Beats on the event loop, and notes each time that the loop has not come round for `BLOCK` seconds."""

    def __init__(self, core: int) -> None:
        self._blocks: list[Block] = []
        self._began = self._beaten = time.perf_counter()
        self._worked = time.thread_time()
        self._collecting: list[tuple[float, float | None]] = []
        """From when until when. One that another thread has just ended may not have said so before the loop goes on."""
        self._stacks: list[str] = []
        self._loop_thread = threading.get_ident()
        beside = [sys.executable, "-m", "bench.heart", str(core)]
        self._beside = subprocess.Popen(beside, stdout=subprocess.PIPE, text=True)
        gc.callbacks.append(self._collected)
        threading.Thread(target=self._watch, daemon=True).start()

    async def beat(self) -> None:
        self._began = self._beaten = time.perf_counter()
        self._worked = time.thread_time()
        while True:
            await asyncio.sleep(BEAT)
            before, self._beaten = self._beaten, time.perf_counter()
            worked, self._worked = self._worked, time.thread_time()
            late = self._beaten - before - BEAT
            if late > BLOCK:
                collector = sum((end or self._beaten) - begin for begin, end in self._collecting)
                where = "\n".join(self._stacks)
                self._blocks.append(Block(before - self._began, late, collector, self._worked - worked, where))
            self._collecting.clear()
            self._stacks.clear()

    def blocks(self) -> list[Block]:
        """What was noted, the longest first; ends what beats beside."""
        self._beside.terminate()
        told, _ = self._beside.communicate()
        late = [[float(moment) - self._began for moment in line.split()] for line in told.splitlines()]
        blocks = [replace(block, machine=_shared(block, late)) for block in self._blocks]
        return sorted(blocks, key=lambda block: block.by_code, reverse=True)

    def _collected(self, phase: str, _info: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collecting.append((now, None))
        elif self._collecting:
            self._collecting[-1] = self._collecting[-1][0], now

    def _watch(self) -> None:
        """Where the loop is while it does not come round."""
        while True:
            time.sleep(BLOCK / 5)
            late = time.perf_counter() - self._beaten - BEAT
            if late > BLOCK / 4:
                frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  there is no other way to see it
                stack = "".join(traceback.format_stack(frame)[-3:]) if frame else "    ?\n"
                self._stacks.append(f"  after {late * 1000:.0f} ms:\n{stack}")


def _shared(block: Block, late: list[list[float]]) -> float:
    """For how much of the block what beats beside was late as well."""
    ends = block.began + BEAT + block.late
    return sum(max(0.0, min(end, ends) - max(begin, block.began)) for begin, end in late)


def beside(core: int) -> None:
    """Beat on that core, and print from when until when that was late. The clock is the one that all processes share."""
    os.sched_setaffinity(0, {core})
    while True:
        before = time.perf_counter()
        time.sleep(BEAT)
        if (now := time.perf_counter()) - before - BEAT > BLOCK / 4:
            print(before + BEAT, now, flush=True)


if __name__ == "__main__":
    beside(int(sys.argv[1]))
