"""Data sets that stay in memory, on the device."""
