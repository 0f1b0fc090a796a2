"""`python -m airflow_adf_mi` does the same as the command `airflow-adf-mi`."""

from __future__ import annotations

import sys

from airflow_adf_mi.cli import main

if __name__ == "__main__":
    sys.exit(main())
