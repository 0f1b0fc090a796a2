"""The service's operations, the two clients that send them, and the reading of answers.

An operation is data (`operations.Call`), so that the blocking and the asynchronous client behave alike. Errors of Azure's
packages end here: callers get errors of this package. A request that changes something is sent once here, unless its token was
refused. The packages above decide whether to send a request again.
"""
