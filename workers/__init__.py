"""Wiring: settings become adapters, adapters become activities, activities become workers. In one place only."""
