"""What a worker and a triggerer both use of Airflow: task instances, XComs, connections, stats, and Protocols of our tasks.

Each module hides one part of Airflow, so that a change of Airflow changes one module. Rules of starting, waiting and
cancelling do not belong here. `adf` has the rules of Data Factory. `_worker` has the rules of workers, `_triggerer` those of
triggerers.
"""
