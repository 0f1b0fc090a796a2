"""The Airflow-free core: settings, identity, wire models, the client, and the rules of starting and waiting.

Belongs here: everything that would be the same outside Airflow. Decisions are pure functions (`starting`, `waiting`);
side effects are short loops around them. Never here: an import of `airflow`, or of Azure's packages at module level
(a Dag file that imports an operator must not pay for them; `api.client` and `auth.credential` import them when first used).
"""
