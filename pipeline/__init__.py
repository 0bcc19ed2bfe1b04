"""Processing of one video or one shard: download, decode, extract. Plain functions without a
scheduler.
"""
