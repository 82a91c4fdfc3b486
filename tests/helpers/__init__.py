"""What several test modules share: configs, runs, pictures, processes."""
