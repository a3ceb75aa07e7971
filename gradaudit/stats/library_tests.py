"""Tests that are taken from scipy as they are: their cards, for the method section."""

from __future__ import annotations

from scipy import special, stats

from gradaudit.stats.family import STATISTICS

STATISTICS.register(
    name="student_t",
    label="t, HC2, Bell–McCaffrey df",
    summary="The analytic test, where every side has 200 patients and 40 that can vary.",
    formula="p = 2·P(T_df ≥ |estimate/SE|);  interval = estimate ± t_{1−α/2, df}·SE",
    source="Imbens & Kolesár 2016, Rev. Econ. Stat. 98:701 (scipy.special.stdtr)",
)(special.stdtr)

STATISTICS.register(
    name="site_t",
    label="t, CR2 at the site, Bell–McCaffrey df",
    summary="The test where patients belong to sites, five of which at least hold both groups.",
    formula="p = 2·P(T_df ≥ |estimate/SE|),  SE of CR2 with sites as clusters",
    source="Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, J. Bus. Econ. Stat. 36:672 (scipy.special.stdtr)",
)(special.stdtr)

STATISTICS.register(
    name="wald_f",
    label="Wald F",
    summary="Several differences tested together, where every side is large.",
    formula="F = dᵀV⁻¹d / q against F(q, residual df)",
    source="Rao 1973, Linear Statistical Inference, ch. 4 (scipy.special.fdtrc)",
)(special.fdtrc)

STATISTICS.register(
    name="fisher_exact",
    label="Fisher exact",
    summary="Exact test of two shares, where no patient differs from its own group.",
    formula="hypergeometric probability of tables no more likely than the one seen",
    source="Fisher 1935, J. R. Statist. Soc. 98:39 (scipy.stats.fisher_exact); interval: Agresti & Caffo 2000, Am. Stat. 54:280",
)(stats.fisher_exact)
