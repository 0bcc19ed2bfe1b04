"""Open a feature store, list what it holds, and read the rows of one video."""

import sys
from collections import Counter

from storage import FeatureStore

store = FeatureStore(sys.argv[1])
for name in store.variants():
    variant = store[name]
    states = Counter(str(status.state) for status in variant.statuses.values())
    print(name, len(variant), "videos with features;", dict(states))

variant = store[store.variants()[0]]
video_id = variant.ids[0]
video = variant[video_id]
for array in video:
    print(video_id, array, video[array][:2])  # reads two rows only
start, end = video.spans[0]
print(f"the first row describes {start:.2f} to {end:.2f} s")
