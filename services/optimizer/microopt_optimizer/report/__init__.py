"""What operators and researchers read of a pool: scorecard, ledger, prices, and why a slice has what it has.

It needs neither torch nor numpy, so that it can run wherever the bus is.
"""
