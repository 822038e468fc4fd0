"""`microopt actuator check`: what every binding reaches, and what would be written there."""
