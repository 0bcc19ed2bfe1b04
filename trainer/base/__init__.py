"""What all of the trainer shares: targets of a batch, and progress on the screen."""
