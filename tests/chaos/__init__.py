"""The chaos suite: real Airflow processes, real faults, and a comparison of the emulator's books with what is expected.

`make chaos` runs all of it; see `tests/chaos/__main__.py`. Reading order: `row.py` (what a case is), `rows_*.py` (the
cases), `case.py` (what a case can do while it runs), `verdict.py` (the comparison), `world.py` (the processes).
"""
