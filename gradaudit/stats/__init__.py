"""The statistical protocol on arrays: regression on patients, permutation, decision.

Model of every comparison: ``y_i = level[code_i] + covariates_i @ gamma + error_i`` over n
independent rows (patient means). A contrast c is a linear function of y: ``estimate = w @ y`` with
row weights w.

    estimate        w @ y                                                linear_model
    standard error  HC2: sum w_i^2 e_i^2 / (1 - h_i)                     standard_errors
    p, interval     permuted full-model residuals, studentised again     permutation
    many at once    Holm, Benjamini-Hochberg, largest t                  multiplicity
    size            ratio, standardised difference, Cliff's delta        effect_sizes
    both tails      signed t*, or t with skewness                        tails
    decision        beyond, within or open, as words and whiskers        decision
    few events      a bound where too few values differ for a test       rare_outcomes
    how many more   chance of within or beyond for a number of patients  power

Table wing: no torch.  Importing the package registers the cards of ``STATISTICS``, in this order.
"""

# The order is the reading order of the method section, not the alphabet's.
from gradaudit.stats import linear_model  # noqa: I001
from gradaudit.stats import standard_errors
from gradaudit.stats import permutation
from gradaudit.stats import multiplicity
from gradaudit.stats import tails
from gradaudit.stats import decision
from gradaudit.stats import rare_outcomes
from gradaudit.stats import power
from gradaudit.stats import effect_sizes

__all__ = [
    "decision",
    "effect_sizes",
    "linear_model",
    "multiplicity",
    "permutation",
    "power",
    "rare_outcomes",
    "standard_errors",
    "tails",
]
