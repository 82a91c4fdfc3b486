"""Logits and labels -> how far a confidence may be trusted: errors with what chance alone gives, intervals, calibrators."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0  # of any that is given, fitted or read
