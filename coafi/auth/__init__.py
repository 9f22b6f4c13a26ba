"""Who asks, and what they may: bearer tokens (JWT) and API keys become principals with permissions.

``authenticator.Authenticator`` is the one entry point, ``principal`` what comes out of it. No token goes further than
this package: not into an error, a log, a run or the ledger.
"""
