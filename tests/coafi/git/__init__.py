"""Tests of ``coafi.git``, on real repositories and real HTTP."""
