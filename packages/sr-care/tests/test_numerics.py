import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_care.belief.numerics import chi2_quantile, chi2_sf, normal_cdf
from sr_care.errors import EntryError

TABLE = {(0.95, 1): 3.8415, (0.95, 2): 5.9915, (0.99, 3): 11.3449, (0.9, 4): 7.7794, (0.99, 6): 16.8119}


@pytest.mark.parametrize(("key", "value"), TABLE.items())
def test_chi_square_quantiles_equal_the_printed_tables(key, value):
    assert math.isclose(chi2_quantile(*key), value, abs_tol=6e-5)


@given(st.floats(0.01, 0.999), st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_the_quantile_inverts_the_tail(probability, degrees):
    assert math.isclose(1 - chi2_sf(chi2_quantile(probability, degrees), degrees), probability, abs_tol=1e-8)


@given(st.floats(-8, 8))
@settings(max_examples=50, deadline=None)
def test_the_normal_is_symmetric_and_its_square_is_chi_square(z):
    assert math.isclose(normal_cdf(z) + normal_cdf(-z), 1, abs_tol=1e-12)
    assert math.isclose(chi2_sf(z * z, 1), 2 * normal_cdf(-abs(z)), rel_tol=1e-9, abs_tol=1e-15)


def test_a_probability_of_one_has_no_quantile():
    with pytest.raises(EntryError, match="probability"):
        chi2_quantile(1.0, 2)
