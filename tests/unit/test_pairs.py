"""Claims about what is trained on: splits, places of crops, both images of a pair alike, intensities."""

from collections import Counter

import numpy as np
import pytest
from register_folder import break_line
from training_tree import change_rows, make_tree, pair, tiny_config

from cvdm_core.errors import UserError
from cvdm_core.images import open_image
from cvdm_core.images.intensity import Normalisation, upsample
from cvdm_core.paths import raw_store, target_store
from cvdm_core.sheet import Acquisition, read_sheet
from cvdm_core.training import pairs as pairs_module
from cvdm_core.training.crops import CropPlaces, CropReader, TrainingBatches, turn
from cvdm_core.training.pairs import Pair, Place, check_splits, open_pairs
from cvdm_core.training.problem import prepare
from cvdm_core.training.statistics import measure_normalisation, measure_pair_maps, measure_residual_std

ONE = Normalisation(0.0, 1.0)


def acquisition(name, split="train", specimen="s", **values):
    return Acquisition(acquisition=name, specimen=specimen, split=split, input=f"{name}.tif", **values)


def array_pair(input, target, scale=2, channels=None, name="a"):
    return Pair(acquisition(name), input, target, channels or [f"c{n}" for n in range(input.shape[1])], scale, 0.1)


def counting_pair(shape=(1, 1, 1, 20, 24), scale=2, name="a"):
    """A pair in which each pixel's value is its own number, and the target's pixel knows its input pixel."""
    numbers = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    return array_pair(numbers, numbers.repeat(scale, axis=3).repeat(scale, axis=4), scale, name=name)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("pairs"), splits=("train", "val"), channels=2, size=40)


def test_a_specimen_in_two_splits_is_refused():
    rows = [acquisition("a1", "train", "cell"), acquisition("a2", "val", "cell")]
    with pytest.raises(UserError, match=r"specimen 'cell'.*'train' \(a1\) and 'val' \(a2\)"):
        check_splits(rows)
    check_splits([acquisition("a1", "train", "cell"), acquisition("a2", "train", "cell"), acquisition("a3", "val", "other")])


def test_a_specimen_that_differs_in_case_only_is_the_same():
    with pytest.raises(UserError, match="specimen"):
        check_splits([acquisition("a1", "train", "Cell"), acquisition("a2", "predict", "cell")])


def test_a_file_in_two_splits_is_refused():
    rows = [acquisition("a1", "train", "one"), acquisition("a2", "test", "two").model_copy(update={"input": "./a1.tif"})]
    with pytest.raises(UserError, match=r"a1\.tif stands in the splits"):
        check_splits(rows)


def test_equal_contents_in_train_and_val_are_refused(tmp_path):
    config = make_tree(tmp_path, splits=("train", "val"), channels=1, ingested=False)
    for suffix in ("", "_target"):
        (tmp_path / f"a1{suffix}.ome.tif").write_bytes((tmp_path / f"a0{suffix}.ome.tif").read_bytes())
    from cvdm_core.acquisitions.ingest import ingest

    for name in ("a0", "a1"):
        ingest(config, name)
    with pytest.raises(UserError, match=r"a1 \(val\) was made of the same file content as a0 \(train\)"):
        prepare(config)


def test_a_sheet_without_training_pairs_is_refused(tmp_path):
    config = make_tree(tmp_path, splits=("test",), channels=1, ingested=False)
    with pytest.raises(UserError, match="nothing to train on"):
        prepare(config)


def test_nothing_is_trained_while_the_line_of_a_pair_is_unusable(tmp_path):
    config = make_tree(tmp_path, splits=("train", "train"), channels=1, ingested=False)
    break_line(config.acquisitions, "a1")
    with pytest.raises(UserError, match=r"line 3: na = '1,4' is not usable.*no model is trained without it"):
        prepare(config)


def test_an_acquisition_that_is_not_ingested_is_refused(tmp_path):
    config = make_tree(tmp_path, splits=("train",), channels=1, ingested=False)
    with pytest.raises(UserError, match=r"a0: it is not ingested yet.*cvdm ingest"):
        prepare(config)


def test_a_channel_that_only_validation_has_is_refused(tmp_path):
    config = make_tree(tmp_path, splits=("train", "val"), channels=1, ingested=False)
    change_rows(config, a1={"channels": ("other",)})
    from cvdm_core.acquisitions.ingest import ingest

    for name in ("a0", "a1"):
        ingest(config, name)
    with pytest.raises(UserError, match="a1: no training pair has its channel 'other'"):
        prepare(config)


def test_a_target_of_another_scale_is_refused(tree):
    config = tiny_config(tree.results.removesuffix("/results"), model={"scale": 1})
    with pytest.raises(UserError, match=r"target has shape .* model\.scale 1"):
        open_pairs(config, read_sheet(config.acquisitions).values(), "train")


def test_a_plane_smaller_than_a_crop_is_refused():
    with pytest.raises(UserError, match=r"40 x 48 pixels, less than training\.crop \(64\)"):
        CropPlaces([counting_pair()], 64, 0, "training")


def test_a_crop_of_half_input_pixels_is_refused():
    with pytest.raises(UserError, match=r"multiple of model\.scale"):
        CropPlaces([counting_pair()], 17, 0, "training")


def test_places_depend_on_seed_purpose_and_number_only():
    pairs = [counting_pair(), counting_pair((2, 1, 3, 16, 40))]
    forwards = [CropPlaces(pairs, 16, 3, "training")[number] for number in range(40)]
    places = CropPlaces(pairs, 16, 3, "training")
    assert [places[number] for number in reversed(range(40))][::-1] == forwards
    assert [CropPlaces(pairs, 16, 4, "training")[number] for number in range(40)] != forwards
    assert [CropPlaces(pairs, 16, 3, "validation")[number] for number in range(40)] != forwards
    assert len({place for place, _ in forwards}) > 35


def test_places_are_uniform_over_pixels_of_all_planes():
    pairs = [counting_pair((1, 1, 1, 16, 16)), counting_pair((2, 2, 1, 16, 32))]  # 256 and 2048 pixels
    places = CropPlaces(pairs, 16, 0, "training")
    drawn = [places[number] for number in range(4000)]
    assert abs(sum(place.pair == 0 for place, _ in drawn) / 4000 - 1 / 9) < 0.02
    planes = Counter((place.t, place.c) for place, _ in drawn if place.pair == 1)
    assert len(planes) == 4 and max(planes.values()) < 1.2 * min(planes.values())
    positions = Counter(place.x for place, _ in drawn if place.pair == 1)
    assert set(positions) == set(range(32 - 8 + 1)) and max(positions.values()) < 2 * min(positions.values())
    symmetries = Counter(symmetry for _, symmetry in drawn)
    assert set(symmetries) == set(range(8)) and max(symmetries.values()) < 1.4 * min(symmetries.values())


def test_a_channel_can_be_chosen():
    mixed = [counting_pair((1, 2, 1, 16, 16)), array_pair(np.zeros((1, 1, 1, 16, 16)), np.zeros((1, 1, 1, 32, 32)), channels=["c1"])]
    drawn = {(place.pair, place.c) for place, _ in (CropPlaces(mixed, 16, 0, "statistics", "c1")[n] for n in range(50))}
    assert drawn == {(0, 1), (1, 0)}


def test_a_crop_is_the_same_place_of_input_and_target():
    pairs = [counting_pair()]
    places, reader = CropPlaces(pairs, 16, 0, "training"), CropReader(pairs, 16, [{"c0": {"input": ONE, "target": ONE}}])
    for number in range(50):
        place, _ = places[number]
        condition, target = reader.read([place])
        np.testing.assert_array_equal(target[0, ::2, ::2], pairs[0].read_target(place, 8, 8)[::2, ::2])
        first = float(place.y * 24 + place.x)
        assert target[0, 0, 0] == first
        # The mean over an input pixel's 2x2 target pixels is the same on both grids where the image is a plane.
        assert abs(condition[0].mean() - target[0].mean()) < 26


def test_a_condition_equals_the_upsampled_whole_bit_for_bit_up_to_the_border():
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 4000, (1, 1, 1, 20, 24)).astype(np.uint16)
    one = array_pair(whole, np.zeros((1, 1, 1, 40, 48), np.uint16))
    expected = upsample(whole[0, 0, 0], 2)
    places, reader = CropPlaces([one], 16, 0, "training"), CropReader([one], 16, [{"c0": {"input": ONE, "target": ONE}}])
    seen = set()
    for number in range(200):
        place, _ = places[number]
        condition, _ = reader.read([place])
        np.testing.assert_array_equal(condition[0], expected[place.y * 2 : place.y * 2 + 16, place.x * 2 : place.x * 2 + 16])
        seen |= {"top"} if place.y == 0 else {"bottom"} if place.y == 12 else {"middle"}
    assert seen == {"top", "middle", "bottom"}


def test_the_eight_symmetries_are_different_and_are_turns_of_the_square():
    image = np.arange(16, dtype=np.float32).reshape(4, 4)
    turned = [turn(image, symmetry).tobytes() for symmetry in range(8)]
    wanted = {np.rot90(flipped, quarter).tobytes() for flipped in (image, image[::-1]) for quarter in range(4)}
    assert set(turned) == wanted and len(wanted) == 8


def test_augmentation_turns_both_images_alike():
    same = np.random.default_rng(0).normal(size=(1, 1, 1, 32, 32))
    batches = TrainingBatches(*_stream([array_pair(same, same, scale=1)], 16), batch=32)
    conditions, targets = batches[0]
    assert conditions.shape == targets.shape == (32, 1, 16, 16) and str(conditions.dtype) == "torch.float32"
    np.testing.assert_array_equal(conditions.numpy(), targets.numpy())


def test_the_batch_of_a_step_is_the_same_at_any_time_and_steps_differ():
    batches, again = (TrainingBatches(*_stream([counting_pair()], 16), batch=4) for _ in range(2))
    first = [batches[step] for step in range(5)]
    for step in (4, 2, 0, 3):
        assert all((a == b).all() for a, b in zip(again[step], first[step], strict=True))
    assert len({step[1].numpy().tobytes() for step in first}) == 5


def test_two_processes_together_take_the_crops_of_one_larger_batch():
    stream = _stream([counting_pair()], 16)
    whole = TrainingBatches(*stream, batch=8)[3][0].numpy()
    parts = [TrainingBatches(*stream, batch=4, rank=rank, world=2)[3][0].numpy() for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_pairs_beyond_the_memory_budget_give_the_same_crops(tree, monkeypatch):
    rows = list(read_sheet(tree.acquisitions).values())
    held = open_pairs(tree, rows, "train")
    monkeypatch.setattr(pairs_module, "MEMORY_BUDGET", 0)
    lazy = open_pairs(tree, rows, "train")
    assert isinstance(held[0]._input, np.ndarray) and not isinstance(lazy[0]._input, np.ndarray)
    maps = [{name: {"input": ONE, "target": ONE} for name in held[0].channels}] * len(held)
    for number in range(20):
        place, _ = CropPlaces(held, 32, 0, "training")[number]
        for a, b in zip(CropReader(held, 32, maps).read([place]), CropReader(lazy, 32, maps).read([place]), strict=True):
            np.testing.assert_array_equal(a, b)


def test_pairs_hold_the_ingested_pixels_channel_by_channel(tree):
    opened = open_pairs(tree, read_sheet(tree.acquisitions).values(), "train")[0]
    assert opened.channels == ("dye0", "dye1") and opened.pixel_size_um == 0.05
    np.testing.assert_array_equal(opened._input, open_image(raw_store(tree, "a0")).values)
    np.testing.assert_array_equal(opened._target, open_image(target_store(tree, "a0")).values)


def test_normalisation_puts_input_and_target_on_one_scale():
    rng = np.random.default_rng(1)
    images = [pair(rng, 2, 96, 2, gain=40.0, offset=100.0) for _ in range(2)]
    # Channel 1 is exposed otherwise: ten times the counts and another offset.
    pairs = [
        array_pair(np.stack([a[0], a[1] * 10 + 500])[None, :, None], b[None, :, None], name=f"a{n}") for n, (a, b) in enumerate(images)
    ]
    maps = measure_normalisation(pairs, 32, 0)
    assert set(maps) == {"c0", "c1"}
    low, high = (maps[name]["input"] for name in ("c0", "c1"))
    assert high.scale == pytest.approx(10 * low.scale, rel=0.1) and high.offset == pytest.approx(10 * low.offset + 500, rel=0.05)
    # input = 40 truth + 100 and target = 100 truth + 20, so target = 2.5 input - 230, whatever noise and blur do to single pixels.
    gain = maps["c0"]["target"].scale / low.scale
    assert gain == pytest.approx(2.5, rel=0.1)
    assert maps["c0"]["target"].offset - gain * low.offset == pytest.approx(-230, rel=0.15)
    values = low.to_model(np.stack([a[0] for a, _ in images]))
    assert abs(values.mean()) < 0.1 and values.std() == pytest.approx(1, rel=0.1)


def test_hot_pixels_do_not_move_the_statistics():
    rng = np.random.default_rng(1)
    a, b = pair(rng, 1, 96, 2)
    hot = a.copy()
    hot[0, rng.integers(0, 96, 4), rng.integers(0, 96, 4)] = 65535
    clean, disturbed = (measure_normalisation([array_pair(image[None, :, None], b[None, :, None])], 32, 0)["c0"] for image in (a, hot))
    assert disturbed["input"].scale == pytest.approx(clean["input"].scale, rel=0.05)
    assert disturbed["target"].scale == pytest.approx(clean["target"].scale, rel=0.05)


def test_relative_intensities_take_each_files_gain_and_offset_out_of_its_target():
    rng = np.random.default_rng(1)
    a, b = pair(rng, 1, 96, 2, gain=40.0, offset=100.0)
    files = [array_pair(a[None, :, None], (gain * b + offset)[None, :, None]) for gain, offset in ((1.0, 0.0), (0.4, 900.0), (1.7, -5.0))]
    maps = measure_normalisation(files, 32, 0)

    def targets(intensities):
        reader = CropReader(files, 64, measure_pair_maps(files, 64, 0, maps, intensities))
        return reader.read([Place(number, 0, 0, 0, 7, 11) for number in range(3)])[1]

    one, other, third = targets("relative")
    np.testing.assert_allclose(other, one, atol=0.02)  # the trimming of the brightest thousandth leaves a little
    np.testing.assert_allclose(third, one, atol=0.02)
    one, other, third = targets("absolute")
    assert np.ptp([one.mean(), other.mean(), third.mean()]) > 0.2


def test_a_pair_of_opposite_contrast_keeps_its_channels_line():
    rng = np.random.default_rng(1)
    a, b = pair(rng, 1, 96, 2)
    files = [array_pair(a[None, :, None], target[None, :, None]) for target in (b, b, 60000 - b.astype(int))]
    maps = measure_normalisation(files[:2], 32, 0)
    assert measure_pair_maps(files, 32, 0, maps, "relative")[2] == {"c0": maps["c0"]}


def test_an_empty_pair_keeps_its_channels_line_whatever_its_noise():
    rng = np.random.default_rng(1)
    a, b = pair(rng, 1, 96, 2)
    empty = [array_pair(rng.normal(120, 4, (1, 1, 1, 96, 96)), rng.normal(50, 3, (1, 1, 1, 192, 192))) for _ in range(6)]
    files = [array_pair(a[None, :, None], b[None, :, None]), *empty]
    maps = measure_normalisation(files, 32, 0)
    assert measure_pair_maps(files, 32, 0, maps, "relative")[1:] == [{"c0": maps["c0"]}] * 6


def test_a_target_of_opposite_contrast_is_standardised_by_itself():
    rng = np.random.default_rng(1)
    a, b = pair(rng, 1, 96, 2)
    maps = measure_normalisation([array_pair(a[None, :, None], (60000 - b.astype(int))[None, :, None])], 32, 0)["c0"]
    assert maps["target"].to_model(60000 - b.astype(int)).std() == pytest.approx(1, rel=0.2)


def test_constant_inputs_are_refused():
    with pytest.raises(UserError, match="'c0': the inputs of the training pairs are constant"):
        measure_normalisation([array_pair(np.full((1, 1, 1, 32, 32), 7), np.zeros((1, 1, 1, 64, 64)))], 32, 0)


def test_the_residual_std_is_that_of_target_minus_condition():
    rng = np.random.default_rng(1)
    target = rng.normal(0, 1, (1, 1, 1, 64, 64))
    one = array_pair(np.zeros((1, 1, 1, 64, 64)), 3 * target, scale=1)
    assert measure_residual_std([one], 32, 0, [{"c0": {"input": ONE, "target": ONE}}]) == pytest.approx(3, rel=0.03)


def _stream(pairs, crop):
    maps = [{name: {"input": ONE, "target": ONE} for name in one.channels} for one in pairs]
    return CropPlaces(pairs, crop, 0, "training"), CropReader(pairs, crop, maps)
