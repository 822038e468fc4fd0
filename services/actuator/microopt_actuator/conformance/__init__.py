"""`microopt actuator conformance`: whether a driver keeps its contract on a real thing."""
