"""From shards to a checkpoint, to scores, to a report.

Knows the store and the networks. Refuses to know where videos come from.
"""
