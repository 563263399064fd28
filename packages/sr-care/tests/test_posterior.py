from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_care import CapabilityDelta, Context, Entry, Strategy
from sr_care.belief.effects import EffectModel, Rows, to_rows
from sr_care.belief.posterior import Posterior
from sr_care.entry import CAPABILITIES
from sr_care.errors import EntryError

D = len(CAPABILITIES)
SMALL = EffectModel()


def random_entries(seed, count, measured=None):
    """Entries of all kinds, with full measurement covariances and some capabilities missing."""
    rng = np.random.default_rng(seed)
    entries = []
    for k in range(count):
        names = [n for n in CAPABILITIES if rng.random() < 0.7] or ["pass1"]
        names = measured or names
        root = rng.normal(0, 0.03, (len(names), len(names)))
        covariance = root @ root.T
        entries.append(
            Entry(
                strategy=Strategy(
                    algorithm=str(rng.choice(["reinforce", "grpo"])),
                    lr=float(10 ** rng.uniform(-4, -2.5)),
                    steps=int(rng.integers(1, 40)),
                    penalty=float(rng.choice([0.0, 0.1])),
                ),
                context=Context(
                    family=str(rng.choice(["numbers", "strings", "lists"])),
                    pass1=float(rng.uniform(0, 0.6)),
                    entropy=float(rng.uniform(0, 1)) if rng.random() < 0.5 else None,
                    model_parameters=1.1e6,
                ),
                delta=CapabilityDelta(
                    values={n: float(rng.uniform(-0.3, 0.3)) for n in names},
                    covariance=tuple(map(tuple, (covariance + covariance.T) / 2)),
                ),
                confidence=float(rng.uniform(0.1, 1)),
                run="r",
                campaign=k,
            )
        )
    return entries


def families_of(entries):
    return sorted({entry.context.family for entry in entries} - {None})


def batch_solution(model, entries):
    """Weighted least squares with the prior as ridge, written out row by row: the closed form, another
    way."""
    arrays = to_rows(entries)
    families = families_of(entries)
    scale = model.prior(families)
    rows, targets, squares = [np.diag(1 / scale)], [np.zeros(len(scale))], 0.0
    phi, process = model.phi(arrays, families), model.process_variance(arrays)
    for i, entry in enumerate(entries):
        seen = np.flatnonzero(~np.isnan(entry.delta.vector()))
        noise = entry.delta.matrix()[np.ix_(seen, seen)]
        noise = noise + (process[i] + model.error_floor**2) * np.eye(len(seen))
        whiten = np.linalg.inv(np.linalg.cholesky(noise))
        squares += np.sum((whiten @ entry.delta.vector()[seen]) ** 2)  # in full, whatever the confidence
        whiten *= np.sqrt(entry.confidence)
        rows.append(whiten @ np.kron(phi[i], np.eye(D))[seen])
        targets.append(whiten @ entry.delta.vector()[seen])
    a, b = np.concatenate(rows), np.concatenate(targets)
    mean = np.linalg.lstsq(a, b, rcond=None)[0]
    left = squares - mean @ (a.T @ b)
    noise = (model.noise_weight + left) / (model.noise_weight + sum(len(entry.delta.values) for entry in entries))
    return mean, np.linalg.inv(a.T @ a), noise


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(max_examples=10, deadline=None)
def test_one_by_one_equals_the_closed_form(seed, count):
    entries = random_entries(seed, count)
    posterior = Posterior.empty(SMALL)
    for entry in entries:
        posterior = posterior.update([entry])
    mean, covariance = posterior.weights()
    expected_mean, expected_covariance, noise = batch_solution(SMALL, entries)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-8)
    np.testing.assert_allclose(covariance, expected_covariance, atol=1e-8)
    assert posterior.noise == pytest.approx(noise, rel=1e-8)


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_order_does_not_matter(seed, random):
    entries = random_entries(seed, 12)
    shuffled = list(entries)
    random.shuffle(shuffled)
    one, other = Posterior.empty().update(entries), Posterior.empty().update(shuffled)
    for a, b in zip(one.weights(), other.weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)


@given(st.integers(0, 10_000), st.integers(0, 40), st.floats(0, 1))
@settings(max_examples=10, deadline=None)
def test_the_covariance_stays_positive_definite_and_evidence_only_narrows_it(seed, count, factor):
    more = random_entries(seed + 1, 5)
    before = Posterior.empty().update(random_entries(seed, count)).forget(factor).update(more, weight=0)
    after = before.update(more)
    for posterior in (before, after):
        assert np.linalg.eigvalsh(posterior.weights()[1])[0] > 0
    narrowing = np.linalg.eigvalsh(before.weights()[1] - after.weights()[1])
    assert narrowing[0] > -1e-10


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_forgetting_equals_smaller_weights_and_forgetting_all_is_the_prior(seed):
    entries = random_entries(seed, 8)
    np.testing.assert_allclose(
        Posterior.empty().update(entries).forget(0.3).weights()[0],
        Posterior.empty().update(entries, weight=0.3).weights()[0],
        atol=1e-10,
    )
    mean, covariance = Posterior.empty().update(entries).forget(0).weights()
    np.testing.assert_array_equal(mean, 0)
    np.testing.assert_allclose(covariance, np.diag(SMALL.prior(families_of(entries)) ** 2), atol=1e-15)


def simulated_coverage(scatter, model):
    """Share of true deltas inside 90% intervals after 30 campaigns, where they scatter ``scatter`` times as assumed."""
    covered = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        entries = random_entries(seed, 40)
        arrays, families = to_rows(entries), families_of(entries)
        phi = model.phi(arrays, families)
        weights = rng.normal(size=phi.shape[1] * D) * model.prior(families)
        spread = scatter * np.sqrt(model.process_variance(arrays))[:, None]
        truth = phi @ weights.reshape(-1, D) + spread * rng.normal(size=(len(entries), D))
        floor = model.error_floor**2 * np.eye(D)
        noise = [np.linalg.cholesky(e.delta.matrix() + floor) @ rng.normal(size=D) for e in entries]
        measured = np.where(np.isnan(arrays.deltas), np.nan, truth + np.array(noise))
        numbers = arrays.numbers.copy()
        numbers[:, -1] = 1.0  # the truth is simulated at full confidence
        seen = Rows(numbers, arrays.algorithms, arrays.families, measured, arrays.errors)
        posterior = Posterior.empty(model).absorb(model.observe(_first(seen, 30)))
        for i, entry in enumerate(entries[30:], start=30):
            low, high = posterior.predict([entry.strategy], entry.context).interval()
            covered.append((low[0] <= truth[i]) & (truth[i] <= high[0]))
    return np.mean(covered)


def test_ninety_percent_intervals_cover_ninety_percent_of_simulated_truths():
    assert 0.87 <= simulated_coverage(1, SMALL) <= 0.93


def test_intervals_widen_where_campaigns_scatter_more_than_assumed():
    assert simulated_coverage(3, SMALL) > simulated_coverage(3, EffectModel(noise_weight=1e9)) + 0.15


def _first(rows, n):
    return Rows(*(part[:n] for part in rows))


def test_no_training_changes_nothing():
    held = Strategy(algorithm="reinforce", lr=1e-3, steps=0)
    prediction = Posterior.empty().update(random_entries(0, 20)).predict([held], Context(pass1=0.3))
    np.testing.assert_allclose(prediction.mean, 0, atol=1e-12)
    np.testing.assert_allclose(prediction.covariance, 0, atol=1e-12)


def test_held_campaigns_of_others_are_no_evidence_of_anything():
    entries = random_entries(0, 20)
    held = [
        replace(e, strategy=replace(e.strategy, steps=0), context=replace(e.context, family="held")) for e in entries
    ]
    held = [replace(e, delta=CapabilityDelta.from_errors({"pass1": 0.0}, {"pass1": 0.0})) for e in held]
    posterior, expected = Posterior.empty().update([*entries, *held]), Posterior.empty().update(entries)
    assert (posterior.noise, posterior.information.families) == (expected.noise, expected.information.families)
    np.testing.assert_array_equal(posterior.count, expected.count)
    np.testing.assert_array_equal(posterior.weights()[1], expected.weights()[1])


def test_a_peak_teaches_that_a_shorter_budget_is_better():
    from sr_care.entry import Boundary

    entry = Entry(
        strategy=Strategy(algorithm="reinforce", lr=1e-3, steps=20),
        context=Context(pass1=0.3, model_parameters=1.1e6),
        delta=CapabilityDelta.from_errors({"pass1": -0.2}, {"pass1": 0.02}),
        boundary=Boundary(start=0.3, peak=0.6, peak_step=8, end=0.1, kept=0.1),
        run="r",
        campaign=0,
    )
    short = Strategy(algorithm="reinforce", lr=1e-3, steps=8)
    mean = Posterior.empty().update([entry]).predict([entry.strategy, short], entry.context).mean[:, 0]
    assert mean[0] < 0 < mean[1]


def test_a_distrusted_outcome_moves_the_mean_less_and_widens_the_intervals_in_full():
    asked = [Strategy(algorithm="reinforce", lr=1e-3, steps=20)]
    calm = Entry(
        strategy=asked[0],
        context=Context(pass1=0.5),
        delta=CapabilityDelta.from_errors({"pass1": 0.05}, {"pass1": 0.02}),
        run="r",
        campaign=0,
    )
    collapse = replace(calm, delta=CapabilityDelta.from_errors({"pass1": -0.5}, {"pass1": 0.02}))
    without = Posterior.empty().update([calm] * 9)
    trusted, doubted = (without.update([replace(collapse, confidence=c)]) for c in (1.0, 0.1))
    means = [p.predict(asked, calm.context).mean[0, 0] for p in (trusted, doubted, without)]
    assert means[0] < means[1] < means[2]
    assert doubted.noise > 2 > 1 > without.noise


def test_peaks_count_as_observed_numbers_each():
    from sr_care.entry import Boundary

    entry = random_entries(0, 1, measured=["pass1"])[0]
    entry = replace(entry, strategy=Strategy(algorithm="grpo", lr=1e-3, steps=20))
    peaked = replace(entry, boundary=Boundary(start=0.3, peak=0.5, peak_step=9, end=0.3, kept=0.3))
    observed = [SMALL.observe(to_rows([one] * 3)).observed for one in (entry, peaked)]
    assert observed == [3, 6]


def test_an_unmeasured_capability_keeps_its_prior():
    posterior = Posterior.empty().update(random_entries(3, 20, measured=["pass1"]))
    fresh = Posterior.empty()
    asked = [Strategy(algorithm="reinforce", lr=1e-3, steps=20)]
    one, other = (p.predict(asked, Context(pass1=0.3)) for p in (posterior, fresh))
    np.testing.assert_allclose(one.mean[0, 1:], 0, atol=1e-12)
    np.testing.assert_allclose(one.covariance[0, 1:, 1:], other.covariance[0, 1:, 1:], atol=1e-12)
    assert one.covariance[0, 0, 0] < other.covariance[0, 0, 0]


@given(st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=2, max_size=6, unique=True))
@settings(max_examples=15, deadline=None)
def test_what_one_family_taught_says_nothing_of_the_slope_of_another(names):
    first, *others = names
    usual = Strategy(algorithm="grpo", lr=1e-3, steps=20)
    rose = CapabilityDelta.from_errors({"pass1": 0.3}, {"pass1": 0.02})
    seen = [
        Entry(strategy=usual, context=Context(family=first, pass1=0.3), delta=rose, run="r", campaign=k)
        for k in range(5)
    ]
    posterior = Posterior.empty().update(seen)
    told = [replace(seen[0], delta=replace(rose, values={"pass1": 0.0}), context=Context(family=n)) for n in others]
    both = posterior.update(told, weight=0)  # their families are known then, and nothing more
    for known in (posterior, both):
        means = [float(known.predict([usual], Context(family=n, pass1=0.3)).mean[0, 0]) for n in (first, *others)]
        assert means[0] > max(means[1:]) + 1e-4
        assert max(means[1:]) - min(means[1:]) < 1e-9
    one, other = (known.predict([usual], Context(family=others[0], pass1=0.3)) for known in (posterior, both))
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-9)  # known or not, the same doubt


def test_equal_doses_at_different_model_sizes_look_alike():
    model = EffectModel()
    small = Posterior.empty(model).model.dose(_query(1e-3, 1.1e6))
    large = model.dose(_query(1e-6, 3e9))
    assert 0.5 < float(small[0] / large[0]) < 2


def _query(lr, parameters):
    from sr_care.belief.effects import query_rows

    return query_rows([Strategy(algorithm="grpo", lr=lr, steps=20)], Context(model_parameters=parameters))


@pytest.mark.parametrize("change", [{"process_error": 0}, {"prior_scale": -1}, {"reference_lr": float("nan")}])
def test_an_impossible_model_is_refused(change):
    with pytest.raises(EntryError, match="model"):
        EffectModel(**change)


def test_a_weight_below_zero_is_refused():
    with pytest.raises(EntryError, match="weight"):
        Posterior.empty().update(random_entries(0, 1), weight=-1)
