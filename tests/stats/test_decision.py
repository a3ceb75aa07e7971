"""Beyond, within, open: against the formulas on raw draws, on their boundaries, words against pictures."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from gradaudit.stats import decision
from gradaudit.stats.decision import MarginTest, decide
from gradaudit.stats.multiplicity import holm
from gradaudit.stats.tails import PermutedTails, SkewedT


def replica(rows, alpha):
    """The rules of the protocol, index by index, without the package's classes."""
    m = len(rows)
    p = []
    for d, se, delta, t in rows:
        ref = t if d > 0 else -t
        near = (abs(d) - delta) / se
        p.append(1.0 if abs(d) <= delta else min(1.0, 2 * (1 + np.sum(ref >= near)) / (len(t) + 1)))
    beyond = holm(p) <= alpha
    r = int(beyond.sum())

    def quantile(ref, level):
        rank = int(np.floor(level * (len(ref) + 1) + 1e-9))
        return np.sort(ref)[::-1][rank - 1] if rank else np.inf

    words, thins, thicks = [], [], []
    for (d, se, delta, t), is_beyond in zip(rows, beyond, strict=True):
        level = alpha / (2 * m) if is_beyond else alpha / (2 * (m - r))
        thin = [d - quantile(t, level) * se, d + quantile(-t, level) * se]
        thick = [d - quantile(t, alpha) * se, d + quantile(-t, alpha) * se]
        is_within = -delta < thick[0] and thick[1] < delta
        words.append("beyond" if is_beyond else "within" if is_within else "open")
        thins.append(thin)
        thicks.append(thick)
    return p, words, thins, thicks


def drawn_rows(rng, m, draws=1999):
    rows = []
    for _ in range(m):
        t = rng.standard_t(20, draws) + 0.3 * (rng.gamma(2, 1, draws) - 2)
        rows.append((rng.normal(0, 0.15), rng.uniform(0.005, 0.08), rng.choice([0.05, 0.1]), t))
    return rows


@pytest.mark.parametrize("m", [1, 4, 12])
def test_words_and_whiskers_equal_the_formulas(m):
    rng = np.random.default_rng(m)
    words_seen = set()
    for _ in range(40):
        rows = drawn_rows(rng, m)
        found = decide([MarginTest(d, se, delta, PermutedTails(t)) for d, se, delta, t in rows])
        p, words, thins, thicks = replica(rows, 0.05)
        assert [c.p_beyond for c in found] == pytest.approx(p)
        assert [c.word for c in found] == words
        for c, (_, _, delta, _), thin, thick in zip(found, rows, thins, thicks, strict=True):
            assert c.thick == pytest.approx(tuple(thick))
            inner = 0 if abs(c.thin[0]) < abs(c.thin[1]) else 1
            assert c.thin[1 - inner] == pytest.approx(thin[1 - inner])
            cut = max(abs(thin[inner]), delta) if c.word == "beyond" else abs(thin[inner])
            assert abs(c.thin[inner]) == pytest.approx(cut, rel=1e-9)
        words_seen |= set(words)
    assert words_seen == {"beyond", "within", "open"} or m == 1


@pytest.mark.slow
def test_no_word_contradicts_its_picture_in_ten_thousand_random_tables():
    """Beyond: the thin whisker does not enter the band.  Within: the thick one lies inside it.  Half of the draws are
    discrete, so that statistics, and ends and margins, tie."""
    rng = np.random.default_rng(0)
    cells = contradictions = 0
    seen = dict.fromkeys(("beyond", "within", "open"), 0)
    for table in range(10_000):
        m = int(rng.integers(1, 9))
        tests = []
        for _ in range(m):
            t = rng.standard_normal(199)
            margin, se = (
                float(rng.choice([0.05, 0.1])),
                float(rng.choice([0.01, 0.02, 0.025, 0.05])),
            )
            estimate = float(rng.normal(0, 0.12))
            if table % 2:
                t, estimate = np.round(2 * t) / 2, float(np.round(40 * estimate) / 40)
            tests.append(MarginTest(estimate, se, margin, PermutedTails(t)))
        missing = [None] * int(rng.integers(0, 3))
        for test, found in zip(tests, decide([*tests, *missing]), strict=False):
            outside = found.thin[0] >= test.margin or found.thin[1] <= -test.margin
            inside = -test.margin < found.thick[0] and found.thick[1] < test.margin
            cells += 1
            seen[found.word] += 1
            contradictions += outside != (found.word == "beyond")
            contradictions += inside != (found.word == "within")
    assert contradictions == 0, f"{contradictions} of {cells}"
    assert cells > 30_000
    assert min(seen.values()) > 1000


def far(estimate=0.30, se=0.02, margin=0.05, draws=3199):
    return MarginTest(
        estimate, se, margin, PermutedTails(np.random.default_rng(1).standard_t(50, draws))
    )


def test_a_cell_without_a_number_makes_nothing_easier():
    """It is one of the planned cells with p = 1: every other p is adjusted for it too, every whisker is as wide."""
    test = far(0.11)
    alone, beside = decide([test])[0], decide([test, None, None, None])[0]
    assert beside.p_beyond_adjusted == pytest.approx(min(1, 4 * alone.p_beyond_adjusted))
    assert beside.thin[0] < alone.thin[0]
    assert beside.thick == alone.thick
    assert decide([None]) == [None]
    assert decide([]) == []


def test_thin_whisker_is_at_half_alpha_over_m_where_beyond_and_over_the_rest_where_not():
    tests = [far(), far(-0.3), MarginTest(0.06, 0.02, 0.05, SkewedT(50)), None]
    found = decide(tests, alpha=0.05)
    assert [c and c.word for c in found] == ["beyond", "beyond", "open", None]
    t = PermutedTails(tests[0].tails.draws)
    assert found[0].thin[0] == pytest.approx(0.30 - t.upper_quantile(0.05 / 8) * 0.02)
    assert found[0].thin[1] == pytest.approx(0.30 + t.lower_quantile(0.05 / 8) * 0.02)
    q = scipy_stats.t.ppf(1 - 0.05 / (2 * 2), 50)  # four planned, two of them beyond
    assert found[2].thin == pytest.approx((0.06 - q * 0.02, 0.06 + q * 0.02))
    q = scipy_stats.t.ppf(0.95, 50)
    assert found[2].thick == pytest.approx((0.06 - q * 0.02, 0.06 + q * 0.02))


@pytest.mark.parametrize("sign", [1, -1])
def test_each_tail_serves_its_own_side(sign):
    """Draws that are large upward only: they widen the whisker below, and p beyond of a positive difference."""
    draws = np.r_[np.linspace(-1, 1, 180), np.full(19, 6.0)]
    test = MarginTest(sign * 0.15, 0.02, 0.05, PermutedTails(draws))
    assert test.p_beyond == pytest.approx(2 * 20 / 200 if sign > 0 else 2 * 1 / 200)
    low, high = test.whisker(0.05)
    assert (low, high) == pytest.approx(
        (test.estimate - 6 * 0.02, test.estimate + (1 - 9 * 2 / 179) * 0.02)
    )
    near = MarginTest(sign * 0.01, 0.01, 0.05, PermutedTails(draws))
    # against +margin the lower tail counts, against -margin the upper one
    assert near.p_within == pytest.approx(20 / 200)  # six standard errors above minus the margin
    if sign < 0:
        return
    nearer = MarginTest(
        0.03, 0.01, 0.05, PermutedTails(-draws)
    )  # two errors inside plus the margin
    assert nearer.p_within == pytest.approx(20 / 200)


@pytest.mark.parametrize(
    ("estimate", "beyond", "within"),
    [
        (0.05, 1.0, 1.0),
        (-0.05, 1.0, 1.0),
        (0.0499, 1.0, None),
        (0.0501, None, 1.0),
        (0.0, 1.0, None),
    ],
)
def test_on_the_margin_nothing_is_shown(estimate, beyond, within):
    test = MarginTest(estimate, 0.01, 0.05, SkewedT(100))
    assert test.p_beyond == beyond if beyond is not None else 0.9 < test.p_beyond < 1.0
    assert test.p_within == within if within is not None else 0 < test.p_within < 0.5


def test_alpha_itself_is_a_word():
    """One in twenty draws reaches: p within is exactly .05; and p beyond .10 is, twice the tail."""
    draws = np.r_[np.linspace(-0.9, 0.9, 18), 5.0]
    test = MarginTest(0.0, 0.02, 0.05, PermutedTails(draws))
    assert test.p_within == pytest.approx(0.10)
    found = decide([test], alpha=0.10)[0]
    assert found.word == "within"
    assert decide([test], alpha=0.0999)[0].word == "open"
    large = MarginTest(0.20, 0.02, 0.05, PermutedTails(draws))
    assert large.p_beyond == pytest.approx(0.10)
    assert decide([large], alpha=0.10)[0].word == "beyond"
    assert decide([large], alpha=0.0999)[0].word == "open"


def test_margins_at_which_the_word_would_change():
    """``beyond_up_to`` and ``within_from`` are the words at every other margin, the rest held as it is."""
    rng = np.random.default_rng(5)
    for _ in range(200):
        estimate, se = rng.normal(0, 0.1), rng.uniform(0.005, 0.05)
        tails = PermutedTails(rng.standard_t(30, 799))
        found = decide([MarginTest(estimate, se, 0.05, tails)])[0]
        for margin in (found.beyond_up_to * 0.999, found.beyond_up_to * 1.001 + 1e-9):
            if margin > 1e-6 and abs(margin - 0.05) > 1e-3:
                word = decide([MarginTest(estimate, se, margin, tails)])[0].word
                assert (word == "beyond") == (margin <= found.beyond_up_to)
        for margin in (found.within_from * 0.999, found.within_from * 1.001):
            word = decide([MarginTest(estimate, se, margin, tails)])[0].word
            assert (word == "within") == (margin > found.within_from)


def test_detectable_difference_has_eighty_percent_power():
    mde = decision.detectable_difference(1.0, 30.0)
    power = scipy_stats.nct.sf(scipy_stats.t.ppf(0.975, 30), 30, mde)
    assert power == pytest.approx(0.80, abs=0.01)


def test_detectable_difference_in_closed_form():
    t = scipy_stats.t.ppf
    assert decision.detectable_difference(0.02, 30.0) == pytest.approx(
        0.02 * (t(0.975, 30) + t(0.8, 30))
    )
    assert decision.detectable_difference(0.02, 30.0, alpha=0.1) == pytest.approx(
        0.02 * (t(0.95, 30) + t(0.8, 30))
    )
    assert decision.detectable_difference(0.02, 0.3) == pytest.approx(
        0.02 * (t(0.975, 1) + t(0.8, 1))
    )  # never fewer than one degree of freedom


def test_an_end_that_ties_with_the_margin_is_drawn_as_it_is_said():
    """Estimates from which the thick whisker of Student's t reaches the margin to the last digit: rounding decides p, and p the word."""
    rng = np.random.default_rng(4)
    words = set()
    for _ in range(1500):
        tails = SkewedT(float(rng.integers(5, 400)), float(rng.choice([0.0, 0.1, -0.15])))
        se, margin = float(rng.uniform(0.004, 0.03)), 0.10
        test = MarginTest(margin - tails.lower_quantile(0.05) * se, se, margin, tails)
        found = decide([test])[0]
        inside = -margin < found.thick[0] and found.thick[1] < margin
        assert inside == (found.word == "within")
        words.add(found.word)
    assert words == {"within", "open"}
