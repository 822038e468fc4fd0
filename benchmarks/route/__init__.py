"""Benchmarks of routing and trust: what the margin, shadows and swaps do to slices."""
