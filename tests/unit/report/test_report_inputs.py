"""What the pages say of an input that looks like nothing that the model was trained on."""

import json
from pathlib import Path

from report_pages import HOSTILE, Page, page, read_index
from report_tree import add_acquisition, make_config

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.quality.gate import MOST
from cvdm_core.report.acquisition import write_report
from cvdm_core.report.inputs import WORDS

SENTENCE = "This input looks like nothing that the model was trained on"


def restored(config: Config, name: str, channels: tuple[str, ...], *outside: dict[str, tuple[float, float]]) -> Page:
    """Return the page of an acquisition of whose channels these shares lie below and above."""
    add_acquisition(config, name, (64, 64), channels)
    file = paths.evaluate_receipt(config, name)
    receipt = json.loads(file.read_text())
    receipt["details"] = {
        "channels": [
            {
                "channel": channel,
                "inputs": {
                    feature: {"low": 10.0, "high": 123.456, "median": 200.0, "below": below, "above": above}
                    for feature in WORDS
                    for below, above in [shares.get(feature, (0.0, 0.01))]
                },
            }
            for channel, shares in zip(channels, outside, strict=True)
        ]
    }
    file.write_text(json.dumps(receipt))
    write_report(config, name)
    return page(config, name)


def test_an_input_as_the_model_knows_them_has_its_table_and_no_sentence(tmp_path: Path) -> None:
    shown = restored(make_config(tmp_path), "known", ("actin",), {"brightness": (0.0, MOST)})
    assert SENTENCE not in shown.words
    assert "Is this an input as the model knows them?" in shown.words
    assert "10 to 123.5" in shown.words and "50" in shown.words


def test_one_unlike_any_is_named_at_the_head_of_its_page_and_on_the_index(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    shown = restored(config, "strange", ("actin",), {"brightness": (0.83, 0.0), "softness": (0.0, 1.0)})
    restored(config, "known", ("actin",), {})
    said = (
        f"{SENTENCE}: 83 % of it is darker and 100 % of it is softer from pixel to pixel (blurred, or sampled more finely) than 99.5 % of "
        "the training data."
    )
    assert said in shown.words.split("Read this before")[0]
    index = read_index(config)
    assert index.words.count(said) == 1
    assert "unlike the training data1" in index.words


def test_the_channel_is_named_where_there_are_several(tmp_path: Path) -> None:
    shown = restored(make_config(tmp_path), "two", ("actin", HOSTILE), {}, {"roughness": (0.0, 0.6)})
    assert f"{SENTENCE}: in the channel {HOSTILE} 60 % of it is rougher (more noise) than" in shown.words


def test_of_a_model_that_does_not_tell_the_page_says_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    add_acquisition(config, "silent", (64, 64))
    write_report(config, "silent")
    assert "as the model knows them" not in page(config, "silent").words
