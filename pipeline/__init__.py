"""What is done to one video or one shard: plain functions.

Knows networks by their contract and the store by its writer. Refuses to know schedulers, clusters and settings files.
"""
