"""Senders of events over HTTP: how each signs, and how its payload becomes an event."""
