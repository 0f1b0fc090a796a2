"""When the event loop does not come round, for how long, and why."""

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
    """A time in which the event loop did not come round. Moments are seconds from the heart's first beat."""

    began: float
    """When it was to come round."""
    ended: float
    worked: float
    """For how many seconds the loop's thread was on its core since it had come round before."""
    collections: list[Span]
    """What Python's garbage collector took of it: it goes through all objects of the process."""
    where: str
    """Where the loop was, each time that was looked at."""
    stops: list[Span]
    """When nobody got that core: a process beside it, which does nothing but beat, did not either."""

    @property
    def late(self) -> float:
        return self.ended - self.began

    @property
    def by_code(self) -> float:
        """Seconds that are left for the code that ran on the loop."""
        return self.late - self._covered(self.collections + self.stops)

    def _covered(self, spans: list[Span]) -> float:
        covered, until = 0.0, self.began
        for begin, end in sorted(spans):
            covered += max(0.0, min(end, self.ended) - max(begin, until))
            until = max(until, min(end, self.ended))
        return covered

    def __str__(self) -> str:
        shares = (self.late, self._covered(self.collections), self._covered(self.stops), self.worked)
        told = "{} ms, {} of them the garbage collector, {} the machine; {} on a core"
        return f"after {self.began:.1f} s: {told.format(*(round(each * 1000) for each in shares))}\n{self.where}"


class Heart:
    """Beats on the event loop, and notes each time that the loop has not come round for `BLOCK` seconds.

    :param core: the one core that the loop may use.
    """

    def __init__(self, core: int) -> None:
        self._blocks: list[Block] = []
        self._began = self._beaten = time.perf_counter()
        self._collecting: list[tuple[float, float | None]] = []
        """From when until when. One that another thread has just ended may not have said so before the loop goes on."""
        self._stacks: list[str] = []
        self._loop_thread = threading.get_ident()
        self._told = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed when what writes there has ended
        beside = [sys.executable, "-m", "bench.heart", str(core)]
        self._beside = subprocess.Popen(beside, stdout=self._told)
        gc.callbacks.append(self._collected)
        threading.Thread(target=self._watch, daemon=True).start()

    async def beat(self) -> None:
        self._began = self._beaten = time.perf_counter()
        worked = time.thread_time()
        while True:
            await asyncio.sleep(BEAT)
            due, self._beaten = self._beaten + BEAT, time.perf_counter()
            before, worked = worked, time.thread_time()
            # Of what began right after a beat, the first `BEAT` seconds are not seen.
            if self._beaten - due > BLOCK - BEAT:
                collections = [self._span(begin, end or self._beaten) for begin, end in self._collecting]
                where = "\n".join(self._stacks)
                span = self._span(due, self._beaten)
                self._blocks.append(Block(*span, worked - before, collections, where, stops=[]))
            self._collecting.clear()
            self._stacks.clear()

    def blocks(self) -> list[Block]:
        """What was noted, what is most of it by code first; ends what beats beside."""
        if self._beside.poll() is not None:
            raise RuntimeError("What beats beside the loop has ended, so what the machine did is not known.")
        self._beside.terminate()
        self._beside.wait()
        with self._told as told:
            told.seek(0)
            stops = [self._span(*map(float, line.split())) for line in told]
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
        """Where the loop is while it does not come round."""
        while True:
            time.sleep(BLOCK / 5)
            late = time.perf_counter() - self._beaten - BEAT
            if late > BLOCK / 4:
                frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  there is no other way to see it
                stack = "".join(traceback.format_stack(frame)[-3:]) if frame else "    ?\n"
                self._stacks.append(f"  after {late * 1000:.0f} ms:\n{stack}")


def beside(core: int) -> None:
    """Beat on that core, and print from when until when that was late. The clock is the one that all processes share."""
    os.sched_setaffinity(0, {core})
    parent = os.getppid()
    while os.getppid() == parent:
        before = time.perf_counter()
        time.sleep(BEAT)
        if (now := time.perf_counter()) - before - BEAT > BLOCK / 4:
            print(before + BEAT, now, flush=True)


if __name__ == "__main__":
    beside(int(sys.argv[1]))
