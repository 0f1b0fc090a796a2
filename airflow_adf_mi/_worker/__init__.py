"""One try of the operator on a worker, from its rendered arguments to its result.

The package holds the try itself, the try that resumes after a deferral, the run that a try owns, its results, and its
journal in Airflow's task state store. Code here may block, because the process of the task runs nothing else. Dag files and
triggers never import this package.
"""
