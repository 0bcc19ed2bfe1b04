"""What we keep, where it lies, and how it is written whole or not at all.

Knows numpy and HDF5. Refuses to know networks, decoders, schedulers and the web.
"""
