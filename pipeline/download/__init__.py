"""Downloads: from a video id to a file that passed the integrity check, or a reason."""
