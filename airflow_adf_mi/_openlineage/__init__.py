"""What the OpenLineage provider gets about a run.

That provider is optional. Only `facets` imports it at module level, and the operator imports `facets` only when the provider
asks. The values of a task's parameters never leave through here, because they may be secret.
"""
