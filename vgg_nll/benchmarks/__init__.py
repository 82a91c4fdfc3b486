"""How fast this is, as ratios within one run; each function gives the rows of a table."""
