"""The router: asks the optimizer that a pool's route names, checks the answer, publishes allocations.

It needs neither torch nor numpy, so that it can run wherever the bus is.
"""
