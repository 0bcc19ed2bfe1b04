"""Read the rows of one video with h5py only: the store is plain HDF5."""

import sys
from pathlib import Path

import h5py

path = next(Path(sys.argv[1]).glob("features/*/*.h5"))
with h5py.File(path) as part:
    ids = [video_id.decode() for video_id in part["ids"]]
    row = 0
    start, end = part["offsets"][row], part["offsets"][row + 1]
    print(path.parent.name, ids[row], f"has {end - start} rows")
    print("spans in seconds:", part["spans"][start:end][:2])
    for name, array in part["arrays"].items():
        if isinstance(array, h5py.Dataset):  # a ragged array is a group of values and offsets
            print(name, array[start:end].shape, array.dtype)
