"""Peers: other instances, and what they and this one tell each other."""
