"""The chaos suite: real Airflow processes, real faults, and the emulator's books held against what must be there.

`make chaos` runs all of it; see `tests/chaos/__main__.py`. Reading order: `row.py` (what a case is), `rows_*.py` (the
cases), `case.py` (what a case can do while it runs), `verdict.py` (what it is held against), `world.py` (the processes).
"""
