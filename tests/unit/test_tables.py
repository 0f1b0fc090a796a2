"""The tables of `make mutation` and `make chaos-proofs` match the code: each change applies exactly once."""

from __future__ import annotations

import ast
import shlex
from collections import Counter

from tests.chaos.proofs import PROOFS
from tests.chaos.run import all_rows
from tests.mutants import all_mutants
from tests.mutation import ROOT, mutated

MUTANTS = all_mutants()


def test_each_mutant_changes_one_place_and_the_file_can_still_be_parsed() -> None:
    """A file that Python cannot read would fail every test, which proves nothing."""
    wrong = []
    for row in MUTANTS:
        source = mutated(row.file, row.old, row.new)
        if source is None or row.old == row.new:
            wrong.append(f"{row.what}: {row.old!r} in {row.file}")
        else:
            ast.parse(source, row.what)
    assert wrong == []


def test_each_mutant_names_existing_tests() -> None:
    paths = {shlex.split(row.tests)[0].partition("::")[0] for row in MUTANTS}
    assert [path for path in sorted(paths) if not (ROOT / path).is_file()] == []


def test_titles_of_mutants_are_unique() -> None:
    assert [what for what, count in Counter(row.what for row in MUTANTS).items() if count > 1] == []


def test_each_proof_changes_one_place_and_names_a_chaos_row() -> None:
    rows = {row.name for row in all_rows()}
    wrong = [proof for proof in PROOFS if mutated(proof.file, proof.old, proof.new) is None or proof.row not in rows]
    assert wrong == []
