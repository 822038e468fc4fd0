"""Forecasts beside other forecasters' on measured traffic, and what they cost; see ../README.md."""
