"""Folders of picture files: the walk, the listing, the survey, reading and decoding."""
