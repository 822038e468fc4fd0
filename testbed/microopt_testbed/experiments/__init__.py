"""The tables and figures of the paper, computed anew: `microopt reproduce`."""
