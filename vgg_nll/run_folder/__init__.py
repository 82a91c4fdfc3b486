"""The folder of a run: its names, its lock, and its record. The only reader and writer of what a run is."""
