"""Weights and states in files."""
