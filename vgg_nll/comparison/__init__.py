"""SessionEnd runs -> tables and a page that compares their losses."""
