"""Tests that nest values until Python's limit disturb no finalizer of another test."""

from __future__ import annotations

import gc
import json

import pytest


class _Cycle:
    """Garbage that only the collector finds. Its finalizer calls functions, like the one that closes a pool of connections."""

    finalized = 0

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        self.close(20)

    def close(self, frames: int) -> None:
        if frames:
            self.close(frames - 1)
        else:
            type(self).finalized += 1


@pytest.mark.parametrize("lists_before_a_collection", range(600, 1000, 50))
def test_no_finalizer_runs_at_the_limit_of_nesting(lists_before_a_collection: int) -> None:
    before, thresholds = _Cycle.finalized, gc.get_threshold()
    gc.collect()
    _Cycle()
    gc.set_threshold(lists_before_a_collection)
    try:
        with pytest.raises(RecursionError):
            json.loads("[" * 100_000)
    finally:
        gc.set_threshold(*thresholds)
    assert _Cycle.finalized == before
    gc.collect()
    assert _Cycle.finalized == before + 1
