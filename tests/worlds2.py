"""Worlds with a known answer for the verdict: what an audit may say of many comparisons, and when it must not.

``draw(name, rng)`` -> DataFrame, one row per image and region, with the columns of ``worlds.py`` (``value`` in points/100 of heat or NaN where
undefined or unmasked, ``group`` 0/1 or a level number, ``cluster``, ``log_area``, ``klass``) and, where a world needs them, ``region``,
``a0``.. (further attributes), ``x`` (continuous attribute), ``site``, ``predicted``, ``known`` (0: the attribute is unknown), ``state``
("ok", "undefined", "no mask").  ``WORLDS[name]``: ``truth`` (true decisive difference: float, or None where nothing is identified),
``margin``, ``never`` (words that may appear in at most ``rate`` of audits), ``bound`` (what to show, in words) and ``replicates``.
Values are not cut to [0, 1] (cutting would move the means); every noise has mean 0 and is drawn with fixed group sizes where the truth needs it.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import special, stats

expit = special.expit
MIX = np.linalg.cholesky(
    np.array(
        [[1, 0.5, -0.4, -0.3], [0.5, 1, -0.4, -0.3], [-0.4, -0.4, 1, 0.2], [-0.3, -0.3, 0.2, 1]]
    )
)
"""Regions of one image: two that move together, two that lose what the others gain."""


def standard(rng, n, skew=False, k=None):
    """Mean 0, SD 1: normal, or gamma(2) (skewness 1.4); (n,) or (n, k) with the correlation of MIX."""
    z = rng.standard_normal(n) if k is None else (rng.standard_normal((n, 4)) @ MIX.T)[:, :k]
    return (stats.gamma.ppf(stats.norm.cdf(z), 2) - 2) / np.sqrt(2) if skew else z


def frame(value, group, cluster=None, **more):
    value = np.asarray(value, float)
    cluster = np.arange(len(value)) if cluster is None else cluster
    return pd.DataFrame(
        {
            "value": value,
            "group": np.asarray(group).astype(int),
            "cluster": cluster,
            "log_area": np.nan,
            "klass": np.nan,
        }
        | more
    )


SIZES = {60: ((60,), (60, 60), (60, 60, 100), (60, 60, 60, 100)), 25: ((25,), (25, 60), (25, 60, 100), (25, 40, 60, 100)),
         12: ((12,), (12, 60), (12, 60, 100), (12, 40, 60, 100))}  # fmt: skip
CELLS = {
    1: (((0, 1),), 1),
    4: (((0, 1), (1, 1)), 2),
    10: (((0, 1), (1, 2), (2, 2)), 2),
    40: (((0, 1), (1, 2), (2, 3), (3, 4)), 4),
}
"""Planned cells: ((attribute, how many of its levels are compared with its last level, the declared reference), regions)."""


def family(cells, small=60, at=1.0, which="all", skew=True, n=400, margin=0.10, sd=0.15):
    """``cells`` comparisons of 400 patients. Level sizes are fixed, levels of different attributes independent.

    Truth: level j against the reference differs by ``at * margin``, sign (-1)^(j + attribute) (which="all"), or only cell 0 does (which="one").
    """

    def gen(rng):
        attributes, regions = CELLS[cells]
        noise = sd * standard(rng, n, skew, regions)
        table = {}
        for a, compared in attributes:
            sizes = SIZES[small][a]
            level = rng.permutation(
                np.r_[np.repeat(np.arange(len(sizes)), sizes), np.full(n - sum(sizes), len(sizes))]
            )
            table[f"a{a}"] = np.tile(level, regions)
            for j in range(compared):
                if which == "all":
                    noise += np.where(level == j, at * margin * (-1) ** (j + a), 0.0)[:, None]
                elif (a, j) == (0, 0):
                    noise[:, 0] += np.where(level == j, at * margin, 0.0)
        out = frame(
            (0.4 + noise).T.ravel(),
            table["a0"],
            np.tile(np.arange(n), regions),
            region=np.repeat(np.arange(regions), n),
        )
        return out.assign(**table)

    return gen


def suppressed(small=6, gap=0.30):
    """Groups 0/1/2 of 300, 100 and ``small``: 2 has 30 points more, 0 and 1 are equal. Withheld (min_cell 11): insufficient, never met."""

    def gen(rng):
        g = np.repeat([0, 1, 2], [300, 100, small])
        return frame(0.2 + gap * (g == 2) + 0.15 * standard(rng, len(g)), g)

    return gen


def unreadable(share=0.7, gap=0.25):
    """Group 1 (200 of 600): ``share`` of its masks missing, and those have ``gap`` more heat. Readable ones: no difference. Never met."""

    def gen(rng):
        g = np.repeat([1, 0], [200, 400])
        lost = np.r_[rng.permutation(200) < share * 200, np.zeros(400, bool)]
        y = 0.4 + gap * lost + 0.15 * standard(rng, 600)
        return frame(np.where(lost, np.nan, y), g, state=np.where(lost, "no mask", "ok"), whole=y)

    return gen


def unknown(share=0.6, gap=0.25):
    """The attribute is known for 40 % of patients, who do not differ; among the others group 1 has ``gap`` more. Never met."""

    def gen(rng):
        g = np.repeat([1, 0], [250, 750])
        known = rng.random(1000) >= share
        y = 0.4 + gap * ((g == 1) & ~known) + 0.12 * standard(rng, 1000)
        return frame(y, g, known=known.astype(int))

    return gen


def undefined(u1, u0, n1=150, n0=450, mean=0.08):
    """Heat undefined completely at random in shares u1 and u0; no difference. Harmless where u1 = u0: count how often "met" is lost."""

    def gen(rng):
        g = np.repeat([1, 0], [n1, n0])
        y = rng.beta(mean * 6, (1 - mean) * 6, n1 + n0)
        lost = rng.random(n1 + n0) < np.where(g == 1, u1, u0)
        return frame(np.where(lost, np.nan, y), g, state=np.where(lost, "undefined", "ok"), whole=y)

    return gen


def lost_by_heat(slope=1.0, coverage=0.8, shift=0.10, n1=200, n0=600):
    """Group 1 lies ``shift`` above group 0, but patients with more heat are lost (log odds ``slope`` per SD; 1 - ``coverage`` on average).

    At shift = margin, slope 1, coverage .8 the seen difference is 7.4 points: a floor of .80 alone says "met" in 65 % of audits.
    """

    def gen(rng):
        g = np.repeat([1, 0], [n1, n0])
        z = standard(rng, n1 + n0)
        y = 0.4 + shift * g + 0.15 * z
        cut = -1.6497 if (slope, coverage) == (1.0, 0.8) else None  # E expit(cut + z) = 0.2
        assert cut is not None, "solve E expit(cut + slope z) = 1 - coverage first"
        lost = (g == 1) & (rng.random(n1 + n0) < expit(cut + slope * z))
        return frame(np.where(lost, np.nan, y), g, state=np.where(lost, "undefined", "ok"), whole=y)

    return gen


def lost_at_random(coverage=0.95, n1=200, n0=600):
    """No difference, both groups lose 1 - ``coverage`` of their patients at random: "met" must survive."""

    def gen(rng):
        g = np.repeat([1, 0], [n1, n0])
        y = 0.4 + 0.15 * standard(rng, n1 + n0)
        lost = np.r_[
            rng.permutation(n1) >= round(coverage * n1), rng.permutation(n0) >= round(coverage * n0)
        ]
        return frame(np.where(lost, np.nan, y), g, state=np.where(lost, "undefined", "ok"), whole=y)

    return gen


def trimmed(n1=250, n0=500, inside=0.04):
    """Region sizes of group 1 reach those of group 0 in 4 % of its patients; there no difference, elsewhere 28 points. Never met."""

    def gen(rng):
        g = np.repeat([1, 0], [n1, n0])
        k = round(inside * n1)
        area = np.r_[rng.normal(-2, 0.3, k), rng.normal(1.5, 0.3, n1 - k), rng.normal(-2, 0.4, n0)]
        y = 0.4 - 0.28 * (area > 0) + 0.08 * standard(rng, n1 + n0)
        return frame(y, g).assign(log_area=area)

    return gen


def aliased(discordant=0, n1=60, n0=140, site_effect=0.10, ratio=1.0, skew=False):
    """Site = group but for ``discordant`` patients on either side; effect of site 10 points, of group 0 at equal site."""

    def gen(rng):
        g = np.repeat([1, 0], [n1, n0])
        site = g.copy()
        site[:discordant], site[n1 : n1 + discordant] = 0, 1
        return frame(
            0.4
            + site_effect * site
            + 0.12 * np.where(g == 1, ratio, 1.0) * standard(rng, n1 + n0, skew),
            g,
            site=site,
        )

    return gen


def classes(count=30, each=12, slope=3.0, share=0.3, spread=0.10, skew=False, shift=0.0):
    """``count`` classes of ``each`` patients; class is related to group (log odds ``slope`` from first to last rank) and to heat. Truth ``shift``."""

    def gen(rng):
        effect = rng.normal(0, spread, count)
        rank = np.argsort(np.argsort(effect)) / count - 0.5
        k = np.repeat(np.arange(count), each)
        g = rng.random(len(k)) < expit(special.logit(share) + slope * rank[k])
        return frame(0.4 + effect[k] + shift * g + 0.10 * standard(rng, len(k), skew), g).assign(
            klass=k
        )

    return gen


def singles(count=150, slope=3.0, share=0.3, spread=0.10):
    """Classes of 1 (half of them), 2 or 3 patients, related to group and heat. Pooling the single ones: type I 38 %; never pooled: 5 %."""

    def gen(rng):
        effect = rng.normal(0, spread, count)
        rank = np.argsort(np.argsort(effect)) / count - 0.5
        k = np.repeat(np.arange(count), rng.choice([1, 2, 3], count, p=[0.5, 0.25, 0.25]))
        g = rng.random(len(k)) < expit(special.logit(share) + slope * rank[k])
        return frame(0.4 + effect[k] + 0.10 * standard(rng, len(k)), g).assign(klass=k)

    return gen


def steep(slope=4.0, n=250):
    """A declared covariate x nearly determines the group, and heat is quadratic in x. A straight line in x: type I 32 %; a spline: 6 %."""

    def gen(rng):
        x = rng.standard_normal(n)
        g = rng.random(n) < expit(slope * (x - 0.5))
        return frame(0.4 + 0.03 * x**2 + 0.03 * x + 0.12 * standard(rng, n), g, x=x)

    return gen


def curve(shape, depth, n=400, sd=0.15, skew=False):
    """A continuous attribute, uniform on 20-80. ``depth``: largest difference of the true curve between P5 (23) and P95 (77)."""
    shapes = {
        "flat": lambda x: 0 * x,
        "line": lambda x: (x - 50) / 54,
        "u": lambda x: ((x - 50) / 27) ** 2,
        "bump": lambda x: np.exp(-(((x - 40) / 6) ** 2)),
    }

    def gen(rng):
        x = rng.uniform(20, 80, n)
        return frame(0.4 + depth * shapes[shape](x) + sd * standard(rng, n, skew), np.zeros(n), x=x)

    return gen


def xor(gap=0.12, each=100):
    """Two attributes, four equal cells: +gap where they agree, -gap where not. Both main effects are exactly 0."""

    def gen(rng):
        a, b = np.repeat([0, 0, 1, 1], each), np.repeat([0, 1, 0, 1], each)
        return frame(
            0.4 + np.where(a == b, gap, -gap) + 0.12 * standard(rng, 4 * each), a, a0=a, a1=b
        )

    return gen


def opposite(gap=0.20, n=400):
    """+gap in class 1 and -gap in class 0, half each: average 0. "Met on average; not the same in every class"."""

    def gen(rng):
        g, k = np.repeat([1, 0], n // 2), np.tile([0, 1], n // 2)
        return frame(0.4 + gap * g * (2 * k - 1) + 0.12 * standard(rng, n), g).assign(klass=k)

    return gen


def mediated(n1=150, n0=300, gap=0.30):
    """True class the same in both groups (50 %); 40 % of group 1's class 0 are called 1, and heat follows the call (+gap). Truth at equal label: +6 points."""

    def gen(rng):
        g = np.repeat([1, 0], [n1, n0])
        label = np.r_[np.arange(n1) % 2, np.arange(n0) % 2]
        called = np.where((g == 1) & (label == 0) & (rng.random(n1 + n0) < 0.4), 1, label)
        return frame(
            0.2 + gap * called + 0.10 * standard(rng, n1 + n0), g, predicted=called
        ).assign(klass=label)

    return gen


def hospitals(sites=10, n=300, icc=0.10, slopes=0.0, shift=0.0):
    """Patients in ``sites`` hospitals with very different shares of group 1; hospital effects (ICC); ``slopes``: SD of the group's effect over hospitals."""

    def gen(rng):
        h = rng.integers(0, sites, n)
        g = rng.random(n) < expit(-1 + 1.5 * rng.standard_normal(sites))[h]
        here, there = rng.standard_normal(sites), slopes * rng.standard_normal(sites)
        return frame(
            0.4
            + 0.12 * (np.sqrt(icc) * here[h] + np.sqrt(1 - icc) * standard(rng, n))
            + (shift + there[h]) * g,
            g,
            site=h,
        )

    return gen


def masks(larger=0.25, n1=80, n0=200):
    """Group 1's masks are drawn ``larger`` (logit of area) than the truth; nothing else differs. The tipping point must be at most that."""

    def gen(rng):
        g = np.repeat([1, 0], [n1, n0])
        true = rng.normal(-1, 0.7, n1 + n0)
        return frame(expit(true + 0.4 * standard(rng, n1 + n0)), g).assign(
            log_area=true + larger * g
        )

    return gen


def pairs(levels=4, apart=0.14, each=120, rest=360):
    """Unordered levels; the first two lie ``apart``, each 7 points from the others: within 10 of the rest, not of each other. Never met."""

    def gen(rng):
        g = np.repeat(np.arange(levels), [each] * (levels - 1) + [rest])
        return frame(
            0.4
            + np.where(g == 0, apart / 2, np.where(g == 1, -apart / 2, 0))
            + 0.15 * standard(rng, len(g)),
            g,
        )

    return gen


def images(
    n1=50, n0=100, icc=0.3, sizes=((0.0, 3.2), (0.0, 3.2)), informative=(0.0, 0.0), shift=0.0
):
    """1-60 images per patient (log-uniform, tied to the patient's own level where ``informative``); equal patient means but for ``shift``."""

    def gen(rng):
        g, b = np.repeat([1, 0], [n1, n0]), rng.standard_normal(n1 + n0)
        u = np.where(g == 1, rng.uniform(*sizes[1], n1 + n0), rng.uniform(*sizes[0], n1 + n0))
        s = np.clip(
            np.round(np.exp(u + np.where(g == 1, informative[1], informative[0]) * b)), 1, 60
        ).astype(int)
        cl = np.repeat(np.arange(n1 + n0), s)
        return frame(
            0.4
            + 0.15 * (np.sqrt(icc) * b[cl] + np.sqrt(1 - icc) * standard(rng, len(cl)))
            + shift * g[cl],
            g[cl],
            cl,
        )

    return gen


@dataclass(frozen=True)
class World:
    gen: object
    truth: float | None
    never: tuple = ()
    rate: float = 0.0
    bound: str = ""
    margin: float = 0.10
    replicates: int = 1000
    more: dict = field(default_factory=dict)


TYPE_ONE = "type I 3.5-6.5 %"
WORLDS = {
    **{
        f"M{m:02d}": World(
            family(m), 0.10, ("not met",), 0.035, "P(not met) <= 3.5 %, all at the margin"
        )
        for m in (1, 4, 10, 40)
    },
    **{
        f"M{m:02d}s": World(
            family(m, small=25), 0.10, ("not met",), 0.035, "the same, smallest level 25, skewed"
        )
        for m in (1, 4, 10, 40)
    },
    **{
        f"M{m:02d}t": World(
            family(m, small=12), 0.10, ("not met",), 0.045, "the same, smallest level 12, skewed"
        )
        for m in (1, 4, 10, 40)
    },
    **{
        f"O{m:02d}": World(
            family(m, which="one"),
            0.10,
            ("met",),
            0.05,
            "P(met) <= 5 % + 2 SE: cell 0 at the margin, the others 0",
        )
        for m in (1, 4, 10, 40)
    },
    **{
        f"N{m:02d}": World(
            family(m, at=0.0, skew=False),
            0.0,
            ("not met",),
            0.001,
            "no difference; with each cell's margin set to 4 of its true SE: P(met) >= 92 / 88 / 78 / 43 % at 1 / 4 / 10 / 40 cells",
        )
        for m in (1, 4, 10, 40)
    },
    "suppressed": World(
        suppressed(), 0.30, ("met",), 0.0, "insufficient; the withheld group named without its size"
    ),
    "unreadable": World(
        unreadable(), 0.175, ("met",), 0.0, "insufficient: 30 % of the group's masks could be read"
    ),
    "unknown": World(
        unknown(), 0.15, ("met",), 0.0, "insufficient: the attribute is known for 40 %"
    ),
    "undefined_2_2": World(
        undefined(0.02, 0.02), 0.0, bound="count met with and without each rule", margin=0.05
    ),
    "undefined_10_4": World(
        undefined(0.10, 0.04),
        0.0,
        ("met",),
        0.05,
        "rate 6 points apart, its margin 5: not within",
        margin=0.05,
    ),
    "lost_by_heat": World(
        lost_by_heat(),
        0.10,
        ("met",),
        0.05,
        "the missing set to the 10 / 90 % point of the seen: P(met) <= 5 % (as seen: 65 %)",
    ),
    "lost_at_random_95": World(
        lost_at_random(0.95), 0.0, bound="P(met) >= 95 % by the 10 / 90 % points"
    ),
    "lost_at_random_90": World(
        lost_at_random(0.90),
        0.0,
        bound="P(met) >= 95 % by the 10 / 90 % points (0 % by the worst case)",
    ),
    "trimmed": World(trimmed(), None, ("met",), 0.0, "insufficient: common support holds 4 %"),
    "aliased": World(
        aliased(),
        None,
        ("met", "not met"),
        0.0,
        "not assessed: site and group cannot be told apart",
    ),
    "aliased_2": World(
        aliased(2, ratio=2.0),
        0.0,
        ("met", "not met"),
        0.0,
        "not assessed: 2 patients on a side tell them apart",
    ),
    "aliased_12": World(aliased(12), 0.0, bound=TYPE_ONE),
    "classes_30x12": World(classes(), 0.0, bound=TYPE_ONE + " (pooled: 99 %)"),
    "classes_30x12_skew": World(classes(skew=True), 0.0, bound=TYPE_ONE),
    "classes_100x2": World(classes(100, 2), 0.0, bound=TYPE_ONE),
    "classes_one_sided": World(
        classes(40, 9, 12.0),
        0.0,
        bound=TYPE_ONE
        + "; share of the group in classes that hold both sides is printed, and below min_coverage the cell is open",
    ),
    "classes_1000x3": World(classes(1000, 3, 3.0, 0.2), 0.0, bound=TYPE_ONE, replicates=200),
    "classes_singles": World(singles(), 0.0, bound=TYPE_ONE + " (singles pooled: 38 %)"),
    "steep_covariate": World(
        steep(), 0.0, bound="type I 3.5-8 % with the covariate as a spline (straight line: 32 %)"
    ),
    "curve_flat": World(curve("flat", 0.0), 0.0, bound=TYPE_ONE + " for the largest difference"),
    "curve_line_margin": World(
        curve("line", 0.10), 0.10, ("within", "beyond"), 0.05, "each <= 5 %"
    ),
    "curve_u_margin": World(curve("u", 0.10), 0.10, ("within", "beyond"), 0.05, "each <= 5 %"),
    "curve_u_30": World(curve("u", 0.30), 0.30, ("within",), 0.0, "never within; beyond >= 95 %"),
    "xor": World(
        xor(), 0.0, bound="the cell says not the same in every ..., BH q <= .10, in >= 95 %"
    ),
    "opposite": World(
        opposite(), 0.0, bound="'met on average; not the same in every class' in >= 95 %"
    ),
    "mediated": World(
        mediated(),
        0.06,
        bound="decisive +6 points at equal label; at equal predicted class 0 stands beside",
        margin=0.05,
    ),
    **{
        f"hospitals_{h}": World(
            hospitals(h), 0.0, bound=TYPE_ONE + " with site centring and CR2 at the site"
        )
        for h in (5, 10, 20)
    },
    "hospitals_20_slopes": World(
        hospitals(20, slopes=0.06),
        0.0,
        bound=TYPE_ONE
        + " with site centring and CR2 at the site (patient permutation after centring: 12 %)",
    ),
    "masks_larger": World(
        masks(),
        0.0,
        bound="tipping point <= 25 % of logit area printed wherever the word is beyond or within",
    ),
    "pairs_14": World(
        pairs(), 0.14, ("met",), 0.05, "two levels 14 apart, each within 10 of the rest"
    ),
    "images": World(images(), 0.0, bound=TYPE_ONE + " with and without precision weights"),
    "images_12_100": World(images(12, 100, 0.1), 0.0, bound=TYPE_ONE),
    "images_informative": World(images(informative=(1.0, 1.0)), 0.0, bound=TYPE_ONE),
    "images_informative_one_group": World(
        images(informative=(0.0, 1.0)),
        0.0,
        bound="patient means 3.5-6.5 %; unguarded precision weights 20 %; with the guard (p <= .10 of size on heat in a group: patient means) <= 6.5 %",
    ),
    "images_power": World(
        images(icc=0.1, shift=0.045), 0.045, bound="precision weights: 90 %, patient means 78 %"
    ),
}


def draw(name, rng):
    """One data set of the world ``name``."""
    return WORLDS[name].gen(rng)
