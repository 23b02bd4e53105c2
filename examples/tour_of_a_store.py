"""Store -> its contents, printed cell by cell as in a notebook.

flowpipe extract --dataset demo --out demo-store
python examples/tour_of_a_store.py demo-store
"""

import sys

import flowpipe

# %% Open the store. This reads the index and no images.
store = flowpipe.open_store(sys.argv[1])
print(store)
print("modalities:", ", ".join(store.modalities))
print("classes:", ", ".join(store.header.class_names))
print("recipe:", store.header.recipe)

# %% A video has its frame count, labels, splits and timestamps.
video_id, video = next(iter(store.videos.items()))
print(video)
print("images:", video.images)
print("height and width:", video.size)
print("labels:", [store.header.class_names[label] for label in video.labels])
print("splits:", video.splits)
print(f"frame rate: {video.fps:.2f} frames per second")

# %% A snippet is uint8 (length, C, H, W), as it is stored.
modality = store.modalities[0]
snippet = store.snippet(video_id, modality, start=0, length=min(5, video.images[modality]))
print(modality, snippet.dtype, snippet.shape)

# %% A flow byte encodes a displacement in pixels; the store records the quantiser.
if "flow" in store.modalities:
    print("quantiser:", store.quantiser("flow"))
    flow = store.flow(video_id, "flow", start=0, length=1)
    print("flow", flow.dtype, flow.shape, f"largest {abs(flow).max():.1f} px")

# %% An image is stored in the shard as an ordinary image file.
(payload,) = store.read_payloads(video_id, modality, 0, 1)
print(f"codec {store.codec(modality)['name']}, first image {len(payload)} bytes")
