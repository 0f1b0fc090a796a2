"""`make matrix`: the wheel in clean environments, with each minor of Airflow and each Python."""
