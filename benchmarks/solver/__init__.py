"""The production solver beside its peers, on the same slice models; see `../README.md`."""
