"""Mutants of what keeps the event loop free, and of the texts of a wait."""

from __future__ import annotations

from tests.mutants import Mutant

REDACT = "tests/unit/test_redact.py"

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
]  # fmt: skip
