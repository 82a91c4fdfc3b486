"""Image files and data sets -> normalised batches."""
