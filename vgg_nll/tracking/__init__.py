"""Where numbers and pictures of a run go. The only part that knows TensorBoard."""
