"""Nano: the embedded model that we train ourselves."""
