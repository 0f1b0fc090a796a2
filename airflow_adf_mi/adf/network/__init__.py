"""How requests reach the service: by which proxy, trusting whose certificates, through which session.

Proxies and authorities are decided in one place, and the libraries underneath are given the result, so that none of them
reads the environment. Nothing here knows an operation of Data Factory.
"""
