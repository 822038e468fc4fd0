"""`microopt collector check`: what the configured sources yield, before anything is published."""
