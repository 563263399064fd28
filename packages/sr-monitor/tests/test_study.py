"""What the records of a study's chains say, in numbers and in Markdown."""

from __future__ import annotations

import pytest
from study_records import made

from sr_monitor.analysis.study import hindsight, judge_study, trajectories
from sr_monitor.report.study import Shown, plot_ends, tables


def test_numbers_of_hand_made_chains() -> None:
    naive = [(0.3, 0.6, 0.1, 0.1), (0.1, 0.2, 0.0, 0.0)]
    guard = [(0.3, 0.5, 0.5, 0.5), (0.5, 0.7, 0.6, 0.68)]
    records = {
        "rich": {
            "naive": {0: made("naive", 0, naive), 1: made("naive", 1, naive)},
            "guard": {0: made("guard", 0, guard), 1: made("guard", 1, guard)},
        }
    }
    arms = judge_study(records, ["naive"])["regimes"]["rich"]["arms"]
    assert arms["naive"]["end"] == 0.0
    assert arms["naive"]["gap"] == pytest.approx((0.5 + 0.2) / 2)
    assert arms["naive"]["collapse_rate"] == 0.5  # a gap of exactly 0.20 is none
    assert arms["naive"]["worst_campaign"] == pytest.approx(-0.2)
    assert arms["guard"]["hindsight"] == pytest.approx(0.7)
    assert hindsight(records["rich"]["guard"][0]) == pytest.approx(0.7)
    assert arms["guard"]["share_of_hindsight"] == pytest.approx(0.68 / 0.7)
    assert arms["guard"]["trace_oracle"] == pytest.approx((0.5 + 0.7) / 2)
    assert arms["guard"]["over_naive"] == pytest.approx([0.68, 0.68, 0.68, 2])
    assert arms["guard"]["per_100_steps"] == pytest.approx(100 * 0.38 / 6)
    assert arms["naive"]["real_falls"] == 1.0
    assert arms["naive"]["onset"] == 3
    assert 0 < arms["naive"]["null_gap"] < 0.2
    shown = {name: Shown(label=name, decides=name == "guard") for name in arms}
    text = tables("rich", arms, shown, ["naive"], ("paper", {"guard": "none"}))
    assert "| arm | end | over naive | seeds | of its hindsight oracle | worst campaign | paper |" in text
    assert "| guard | 68.0 [68.0, 68.0] | +68.0 [+68.0, +68.0] | 2 | 97.1 of 70.0* | +18.0 | none |" in text
    assert "| naive | 6 | 384 | 0 | 5 | 0 | 1.0 |" in text  # evaluations that decide nothing cost nothing
    figure = plot_ends(arms, shown, marked=["guard"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["naive", "guard"]


def test_a_curve_seen_with_few_samples_is_read_as_what_it_is() -> None:
    record = made("guard", 0, [(0.3, 0.5, 0.5, 0.5)])
    record |= {"samples": [1] * 4, "heldout": [3, 5, 9, 8]}
    assert trajectories(record)[0].pass1_E == pytest.approx([0.3, 0.5, 0.9, 0.8])


def test_an_oracle_is_chosen_by_one_half_of_the_samples_and_measured_by_the_other() -> None:
    record = made("guard", 0, [(0.3, 0.5, 0.5, 0.5), (0.5, 0.7, 0.6, 0.68)])
    first, second = (campaign["audit"] for campaign in record["summary"]["campaigns"])
    first["halves"] = {"start": [0.3, 0.3], "peak": [0.5, 0.5], "end": [0.5, 0.5], "kept": [0.5, 0.5]}
    second["halves"] = {"start": [0.5, 0.5], "peak": [0.8, 0.6], "end": [0.55, 0.65], "kept": [0.66, 0.7]}
    # the first half says peak, which the second has at 0.6; the second says kept, which the first has at 0.66
    assert hindsight(record) == pytest.approx((0.6 + 0.66) / 2)
    assert (
        judge_study({"rich": {"guard": {0: record}}}, [])["regimes"]["rich"]["arms"]["guard"]["flattered_oracle"]
        is False
    )
