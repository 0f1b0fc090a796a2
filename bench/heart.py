"""Times at which the event loop was late, for how long, and why."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, replace

BLOCK = 0.1
BEAT = 0.01

Span = tuple[float, float]


@dataclass(frozen=True)
class Block:
    """A time in which the event loop was blocked. All times are seconds from the heart's first beat."""

    began: float
    """When the next beat was due."""
    ended: float
    worked: float
    """For how many seconds the loop's thread was on its core since the previous beat."""
    collections: list[Span]
    """When Python's garbage collector ran, which visits all objects of the process."""
    where: str
    """The stacks of the loop's thread at several moments of it."""
    stops: list[Span]
    """When the machine gave the core to nobody here: a second process on it, which only beats, was late as well."""

    @property
    def late(self) -> float:
        return self.ended - self.began

    @property
    def by_code(self) -> float:
        """The remaining seconds, which the code on the loop took."""
        return self.late - self._covered(self.collections + self.stops)

    def _covered(self, spans: list[Span]) -> float:
        covered, until = 0.0, self.began
        for begin, end in sorted(spans):
            covered += max(0.0, min(end, self.ended) - max(begin, until))
            until = max(until, min(end, self.ended))
        return covered

    def __str__(self) -> str:
        shares = (self.late, self._covered(self.collections), self._covered(self.stops), self.worked)
        text = "{} ms, {} of them the garbage collector, {} the machine; {} on a core"
        return f"after {self.began:.1f} s: {text.format(*(round(each * 1000) for each in shares))}\n{self.where}"


class Heart:
    """Beats on the event loop, and records each time that the loop was blocked for `BLOCK` seconds.

    :param core: the one core that the loop may use.
    """

    def __init__(self, core: int) -> None:
        self._blocks: list[Block] = []
        self._began = self._beaten = time.perf_counter()
        self._collecting: list[tuple[float, float | None]] = []
        """Begin and end of each collection. One that another thread has just ended may lack its end when the loop continues."""
        self._stacks: list[str] = []
        self._loop_thread = threading.get_ident()
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed once the process that writes to it has ended
        beside = [sys.executable, "-m", "bench.heart", str(core)]
        self._beside = subprocess.Popen(beside, stdout=self._output)
        gc.callbacks.append(self._collected)
        threading.Thread(target=self._watch, daemon=True).start()

    async def beat(self) -> None:
        self._began = self._beaten = time.perf_counter()
        worked = time.thread_time()
        while True:
            await asyncio.sleep(BEAT)
            due, self._beaten = self._beaten + BEAT, time.perf_counter()
            before, worked = worked, time.thread_time()
            # The first `BEAT` seconds of a block that begins right after a beat are not seen.
            if self._beaten - due > BLOCK - BEAT:
                collections = [self._span(begin, end or self._beaten) for begin, end in self._collecting]
                where = "\n".join(self._stacks)
                span = self._span(due, self._beaten)
                self._blocks.append(Block(*span, worked - before, collections, where, stops=[]))
            self._collecting.clear()
            self._stacks.clear()

    def blocks(self) -> list[Block]:
        """All blocks, the one with the most time of code first; also ends the second process."""
        if self._beside.poll() is not None:
            raise RuntimeError("The second process has ended, so the times that the machine took are not known.")
        self._beside.terminate()
        self._beside.wait()
        with self._output as output:
            output.seek(0)
            stops = [self._span(*map(float, line.split())) for line in output]
        return sorted((replace(block, stops=stops) for block in self._blocks), key=lambda block: -block.by_code)

    def _span(self, begin: float, end: float) -> Span:
        return begin - self._began, end - self._began

    def _collected(self, phase: str, _info: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collecting.append((now, None))
        elif self._collecting:
            self._collecting[-1] = self._collecting[-1][0], now

    def _watch(self) -> None:
        """Record the stack of the loop's thread while the loop is late."""
        while True:
            time.sleep(BLOCK / 5)
            late = time.perf_counter() - self._beaten - BEAT
            if late > BLOCK / 4:
                frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  there is no other way to see it
                stack = "".join(traceback.format_stack(frame)[-3:]) if frame else "    ?\n"
                self._stacks.append(f"  after {late * 1000:.0f} ms:\n{stack}")


def beside(core: int) -> None:
    """Beat on that core, and print begin and end of each time that a beat was late, by a clock that all processes share."""
    os.sched_setaffinity(0, {core})
    parent = os.getppid()
    while os.getppid() == parent:
        before = time.perf_counter()
        time.sleep(BEAT)
        if (now := time.perf_counter()) - before - BEAT > BLOCK / 4:
            print(before + BEAT, now, flush=True)


if __name__ == "__main__":
    beside(int(sys.argv[1]))
