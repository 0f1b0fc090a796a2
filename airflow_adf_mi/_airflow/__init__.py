"""What both a worker and a triggerer need of Airflow: task instances, XComs, connections, stats, and Protocols of our tasks.

A module here hides one part of Airflow, so that a change of Airflow is one change of ours. Rules of starting, waiting and
cancelling never live here: those of Data Factory are in `adf`, those of a place in `_worker` and `_triggerer`.
"""
