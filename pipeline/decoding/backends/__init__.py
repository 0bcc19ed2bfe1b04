"""Decoder libraries behind one interface: PyAV, decord, torchcodec and NVDEC.

Each module has one function `(file, its probe, counts to keep)` that yields frames; `frame.py` says
what they share. `pipeline.decoding.video_reader.BACKENDS` lists them. A library is imported only
when its function is called.
"""
