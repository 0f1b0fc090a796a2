"""The table of the proof."""

from __future__ import annotations

from collections.abc import Sequence

from tests.scale.backfill import Backfill

HEAD = ("run", "mode", "windows", "seconds", "ADF's floor", "seen", "")
MOST_PROBLEMS = 5


def print_table(backfills: Sequence[Backfill]) -> None:
    """Print a line for each backfill: its wall time, the least time that Data Factory needs for it, and what was seen."""
    lines = [_line(backfill) for backfill in backfills]
    widths = [max(len(line[column]) for line in [HEAD, *lines]) for column in range(len(HEAD) - 1)]
    print()
    for line in [HEAD, (*("-" * width for width in widths), ""), *lines]:
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=False)]
        print("  ".join([*cells, line[-1]]).rstrip())
    print()
    for backfill in backfills:
        print(f"{backfill.row.name}: expected: {backfill.row.expected}")
        for problem in backfill.problems[:MOST_PROBLEMS]:
            print(f"    !! {problem}")
        if len(backfill.problems) > MOST_PROBLEMS:
            print(f"    and {len(backfill.problems) - MOST_PROBLEMS} more")
    wrong = sum(1 for backfill in backfills if backfill.problems)
    print(f"\n{len(backfills)} rows, {wrong} not as expected", flush=True)


def _line(backfill: Backfill) -> tuple[str, ...]:
    row = backfill.row
    return (
        row.run,
        row.mode,
        str(row.windows),
        f"{backfill.ended - backfill.began:.0f}",
        f"{row.floor:.0f}",
        backfill.seen(),
        "!!" if backfill.problems else "as expected",
    )
