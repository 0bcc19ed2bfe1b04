"""Features of a catalog on disk: parts, their accounts, and what keeps both true."""
