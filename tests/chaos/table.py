"""The table of the chaos suite."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.case import Case
from tests.chaos.row import Row
from tests.chaos.verdict import counted

HEAD = ("case", "mode", "runs", "cancels", "ADF", "task", "seconds", "")


def print_table(results: Sequence[tuple[Case, list[str]]]) -> None:
    lines = [_line(case, why) for case, why in results]
    widths = [max(len(line[column]) for line in [HEAD, *lines]) for column in range(len(HEAD) - 1)]
    print()
    for line in [HEAD, (*("-" * width for width in widths), ""), *lines]:
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=False)]
        print("  ".join([*cells, line[-1]]).rstrip())
    wrong = sum(1 for _, why in results if why)
    print(f"\n{len(results)} cases, {wrong} not as expected", flush=True)


def show_rows(rows: Sequence[Row]) -> None:
    for row in rows:
        marks = " ".join(filter(None, ["subset" if row.subset else "", f"scene: {row.scene}" if row.scene else ""]))
        print(f"{row.name:42} {row.mode:11} {row.fault}{'  [' + marks + ']' if marks else ''}")
    print(f"{len(rows)} cases")


def _line(case: Case, why: Sequence[str]) -> tuple[str, ...]:
    runs = case.runs()
    return (
        case.row.name,
        case.row.mode,
        str(len(runs)),
        str(sum(1 for run in runs if run.cancelled_at is not None)),
        counted([run.status for run in runs]),
        counted([str(instance.state) for instance in case.instances()]),
        f"{case.ended - case.began:.0f}",
        f"!! {'; '.join(why)}" if why else "as expected",
    )
