"""The numbers that papers on video highlights report, each as a plain function of arrays.

Refuses to know files, datasets, users and seeds; `trainer.evaluation.phd2_protocol` says what is fed in, and what is averaged.
"""
