"""Decoder libraries behind one interface: PyAV, decord, torchcodec and NVDEC.

Each module has one function `(file, its probe, its counts)` that yields frames; `frame.py` defines
a frame. `pipeline.decoding.video_reader.BACKENDS` lists the functions. A library is imported only
when its function is called.
"""
