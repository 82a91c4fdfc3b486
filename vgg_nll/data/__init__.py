"""Images in batches: data sets that stay in memory, and folders of pictures."""
