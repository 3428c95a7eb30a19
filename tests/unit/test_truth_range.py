import numpy as np
import pytest

from cvdm_core.sheet import Acquisition
from cvdm_core.training.pairs import Pair
from cvdm_core.training.truth_range import measure_truth_range


def test_the_range_is_that_of_the_targets_between_their_percentiles_by_channel():
    rng = np.random.default_rng(0)
    target = np.stack([rng.uniform(100, 1100, (256, 256)), rng.uniform(0, 50, (256, 256))])[None, :, None].astype(np.float32)
    row = Acquisition(acquisition="a", specimen="s", split="train", input="a.tif")
    pair = Pair(row, target[..., ::2, ::2], target, ["actin", "tubulin"], 2, 0.1)
    ranges = measure_truth_range([pair], crop=64, seed=0)
    assert ranges == pytest.approx({"actin": 998, "tubulin": 49.9}, rel=2e-3)
    assert measure_truth_range([pair], crop=64, seed=0) == ranges
