"""Logits -> numbers."""
