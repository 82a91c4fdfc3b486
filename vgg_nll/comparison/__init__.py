"""Finished runs -> statistics over seeds, and a report that compares their losses."""
