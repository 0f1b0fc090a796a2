"""Data Factory without Airflow: settings, identity, wire models, the client, and the rules of starting and waiting.

Everything that would be the same outside Airflow belongs here. Decisions are pure functions (`starting`, `waiting`), and
side effects are short loops around them. Two imports are forbidden here: `airflow`, and Azure's packages at module level. A
Dag file that imports an operator must not load Azure's packages. So functions import them on first use.
"""
