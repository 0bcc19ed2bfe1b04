"""What several tests share: made files, servers, stores and faults."""
