"""Count states and highlight seconds of a store with pandas (the extra `export`)."""

import sys

from storage import FeatureStore

store = FeatureStore(sys.argv[1])
states = store.to_pandas("states")
print(states.groupby(["variant", "state"], observed=True).size())
labels = store.to_pandas("labels")
seconds = (labels["end"] - labels["start"]).where(labels["value"] > 0)
print("annotated", labels["unit"].unique().tolist(), "by split:")
print(seconds.groupby(labels["split"]).sum())
