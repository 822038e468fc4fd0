"""One file for each kind of thing that can hold an allocation; what they share is `base.Driver`."""
