"""YAML -> checked config -> objects."""
