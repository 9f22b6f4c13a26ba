"""Benchmarks: what the system costs, as ratios within one run. ``make bench`` runs them."""
