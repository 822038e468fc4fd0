"""The auditor: what optimizers that only watch would have done, what was promised, and what came of it.

It takes off the router's path all that does not decide an allocation, and needs neither torch nor numpy.
"""
