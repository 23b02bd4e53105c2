"""A store behind a torch DataLoader: any start method, any number of workers, the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from store_making import Snippets

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_loader_processes_read_what_was_written(make_store: Any, method: str) -> None:
    made = make_store([("a", 9), ("b", 7)], [("c", 12), ("d", 5)])
    snippets = Snippets(made.path)
    assert len(snippets[0]) == 3  # a descriptor is open before the workers start
    loader = torch.utils.data.DataLoader(
        snippets, batch_size=2, num_workers=2, multiprocessing_context=method
    )
    batches = torch.cat(list(loader)).numpy()
    want = np.stack([made.planes[name]["flow"][1:4] for name in snippets.ids])
    np.testing.assert_array_equal(batches, want)
