"""`microopt forecast show`: what was expected of a slice, what came, and how far to trust it."""
