"""Versions of slice models: names, objects, and which one is in force. Nothing here needs torch."""
