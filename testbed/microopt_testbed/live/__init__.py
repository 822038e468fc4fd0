"""Slices of real packets, real queues and real CPU limits on one Linux machine (docs/live-testbed.md)."""
