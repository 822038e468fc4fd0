"""The tuner: measures slice models on fresh telemetry, fine-tunes what drifted, offers what is better."""
