"""The service's operations, the two clients that send them, and what comes back.

An operation is data (`operations.Call`), so that the blocking and the asynchronous client behave alike. Errors of Azure's
packages end here: they leave as errors of this package. Whether to try again is never decided here, because that depends on
what the request was for.
"""
