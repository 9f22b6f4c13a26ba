"""Telling others what happened: who wants to know, and messages after Standard Webhooks 1.0."""
