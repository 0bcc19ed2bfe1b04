"""Networks: tensors in, tensors out.

Knows torch. Refuses to know files of features, videos, schedulers and losses.
"""
