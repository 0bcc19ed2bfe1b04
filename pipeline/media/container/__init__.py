"""What a media file's container says: format, streams, clock, packets and lengths."""
