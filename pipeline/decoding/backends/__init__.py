"""One decoder library a file, each behind the same function: `(file, its probe, counts to keep)` → its frames.

What they owe each other is in `frame.py`; the table of them is `pipeline.decoding.video_reader.BACKENDS`. A library is imported only
when its function is called.
"""
