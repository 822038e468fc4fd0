"""Solvers: each turns a `Problem` and the slice models into a `Solution`. Synchronous, and no bus in sight."""
