"""`microopt demo`: a day of two slices, by the real agents on a real broker, in about two and a half minutes."""
