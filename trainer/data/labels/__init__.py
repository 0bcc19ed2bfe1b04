"""Labels: of users and annotators, their segments, splits and histories."""
