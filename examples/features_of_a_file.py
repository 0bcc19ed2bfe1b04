"""Extract features of video files in memory, without a catalog or a store."""

import sys

from pipeline import extract_features

settings = {"yolov5": {"size": "n", "frames_per_second": 1.0}}
weights = {"yolov5": "random:0"}  # to try it; name your file instead of random:0
for path in sys.argv[1:]:
    features = extract_features(path, ["frames", "yolov5"], weights=weights, settings=settings)
    for mark in features.marks:
        print("NOTE", mark)
    for name, track in features.items():
        start, end = track.spans[-1]
        print(f"{path}: {track.rows} rows of {name}, the last from {start:.2f} to {end:.2f} s")
