"""The optimizer worker: answers problems from the bus with the solvers of this package."""
