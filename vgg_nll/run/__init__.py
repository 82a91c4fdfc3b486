"""What a run does: record -> parts -> training -> results."""
