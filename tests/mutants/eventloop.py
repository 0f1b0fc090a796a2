"""Mutants of what keeps the event loop free, and of the texts of a wait."""

from __future__ import annotations

from tests.mutants import Mutant

REDACT = "tests/unit/test_redact.py"
MANY = "tests/unit/test_explain_many.py"

MUTANTS = [
    Mutant("redacted before it is cut", "redact.py", "return _masked(text[: limit + OVERLAP], limit)", "return _masked(text, limit)", f"{REDACT} -k cut_before"),
    Mutant("secret at the cut", "redact.py", "_masked(text[: limit + OVERLAP], limit)", "_masked(text[:limit], limit)", f"{REDACT} -k at_the_cut"),
    Mutant("behind the cut shown", "redact.py", "return \"\".join([*parts, text[at:end]])", "return \"\".join([*parts, text[at:]])", f"{REDACT} -k only_cut"),
    Mutant("values searched again and again", "redact.py", "value.end() if value is not None else found.end()", "found.end()", f"{REDACT} -k hostile --timeout=20"),
    Mutant("key of a function searched for without bounds", "redact.py", "'\\d]{0,127}+[^\\s&;\\\"']", "]*\\d", f"{REDACT} -k hostile --timeout=20"),
    Mutant("password of an address searched for without bounds", "redact.py", "(?P<secret>[^\\s\\\"'@]{0,500}+", "(?P<secret>[^\\s\\\"']*", f"{REDACT} -k hostile --timeout=20"),
    Mutant("token searched for from each beginning", "redact.py", "(?=[\\w-]*+\\.eyJ[\\w-]{2,}+(?:\\.|\\Z))", "", f"{REDACT} -k hostile --timeout=20"),
    Mutant("token that was cut is shown", "redact.py", 'r"(?=[\\w-]{19,}+', 'r"(?!)(?=[\\w-]{19,}+', f"{REDACT} -k by_the_service"),
    Mutant("message read whole", "models.py", "shown(value) if isinstance(value, str)", "redact(value) if isinstance(value, str)", f"{REDACT} -k megabyte"),
    Mutant("loop looked for again for each failure", "explain.py", "        is_named = said.names(row.activity_name)\n", "        loops = loops_of(other for other, _ in rows)\n        is_named = said.names(row.activity_name)\n", f"{MANY} -k proportion"),
    Mutant("all failures made, and few shown", "explain.py", "        if len(found.first) < MOST_SHOWN:\n", "        if True:\n", f"{MANY} -k turn"),
    Mutant("last container names the loop", "explain.py", "loops.setdefault(inner[0], ", "loops.__setitem__(inner[0], ", f"{MANY} -k simple"),
    Mutant("many failures counted at once", "explain.py", "        if number % AT_ONCE == 0:\n", "        if False:\n", f"{MANY} -k turn"),
    Mutant("odd answer quoted whole", "explain.py", "cap(str(page) if isinstance(page, AdfError) else f\"unexpected answer {page!r}\")", "str(page) if isinstance(page, AdfError) else f\"unexpected answer {page!r}\"", f"{MANY} -k quoted"),
]  # fmt: skip
