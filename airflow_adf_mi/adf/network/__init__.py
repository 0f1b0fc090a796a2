"""How requests reach the service: the proxy, the trusted certificate authorities, and the session.

One place decides on proxies and authorities, and gives the result to the HTTP libraries. So none of these libraries
reads the environment. Code here knows no operation of Data Factory.
"""
