"""The proof of backfills on a distributed Airflow: CeleryExecutor, Redis, PostgreSQL, two workers and two triggerers.

`make scale` starts it all on the loopback interface, runs the rows of `rows`, and compares the emulator's books and Airflow's
database with what each row expects.
"""
