"""Child processes of any kind: what their end means, when they hang, and running one to its end."""
