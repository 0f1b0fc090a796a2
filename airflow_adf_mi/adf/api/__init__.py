"""The service's operations, the two clients that send them, and what comes back.

An operation is data (`operations.Call`), so that the blocking and the asynchronous client behave alike. Errors of Azure's
packages end here: they leave as errors of this package. A request that changes something is sent once here; whether it is
sent again is decided by the rules above.
"""
