"""How much a series that resembles its own past really says: autocorrelation, effective sample sizes, Student's t. Pure.

* The autocorrelation of a series with gaps is the mean product of the pairs that are there, times 1 - k / t for k of t steps:
  without gaps that is the usual estimate, the sum of the products through n.
* A mean or a slope through n points with autocorrelation r at one step is as uncertain as one through n (1 - r) / (1 + r)
  independent points (Santer and others, Statistical significance of trends and trend differences in layer-average atmospheric
  temperature time series, Journal of Geophysical Research 105, 2000). Estimates of r from what a fit leaves are too small by
  about (2 + 4 r) / n (after Marriott and Pope, Bias in the estimation of autocorrelations, Biometrika 41, 1954), which is
  added back.
  One step says little of slow waves below fast noise, so the same is asked of the means of blocks of √n / 2 points
  (the method of batch means), and the smaller answer counts.
* Quantiles and probabilities of Student's t come from the normal distribution by Wallace (Bounds on Normal Approximations to
  Student's and the Chi-square Distributions, Annals of Mathematical Statistics 30, 1959): right to
  1 % from 3 degrees of freedom on.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_BLOCKS = 6

_erfc = np.frompyfunc(math.erfc, 1, 1)


def autocorrelation(values: Floats, lags: int) -> Floats:
    """Autocorrelation (n, lags + 1) of each row of `values` (n, t), NaN for gaps, about its mean; 0 where it is constant."""
    is_known = np.isfinite(values)
    count = np.maximum(is_known.sum(axis=1, keepdims=True), 1)
    mean = np.where(is_known, values, 0.0).sum(axis=1, keepdims=True) / count
    x = np.where(is_known, values - mean, 0.0)
    size = 1 << int(values.shape[1] + lags).bit_length()
    products, pairs = (_lagged(part, size, lags) for part in (x, is_known.astype(np.float64)))
    variance = products[:, :1] / count
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(pairs > 0.5, products / np.maximum(pairs, 1.0), 0.0) / variance
    shrunk = 1 - np.arange(found.shape[1]) / values.shape[1]
    return np.asarray(np.where(variance > 0, np.clip(found * shrunk, -1.0, 1.0), 0.0))


def _lagged(values: Floats, size: int, lags: int) -> Floats:
    spectrum = np.fft.rfft(values, size, axis=1)
    return np.asarray(np.fft.irfft(spectrum * np.conj(spectrum), size, axis=1)[:, :lags + 1])


def first_lag(values: Floats) -> Floats:
    """Autocorrelation of each row at one step, freed of its bias; 0 to 0.99."""
    count = np.maximum(np.isfinite(values).sum(axis=1), 1)
    found = autocorrelation(values, 1)[:, 1]
    return np.asarray(np.clip(found + (2 + 4 * found) / count, 0.0, 0.99))


def effective_count(residuals: Floats) -> Floats:
    """How many independent points each row of `residuals` (n, t) is worth for a mean or a slope; 1 to its number of points."""
    count = np.isfinite(residuals).sum(axis=1).astype(np.float64)
    one = first_lag(residuals)
    by_points = count * (1 - one) / (1 + one)
    blocks = block_means(residuals, max(2, round(residuals.shape[1] ** 0.5 / 2)))
    if blocks.shape[1] < FEWEST_BLOCKS:
        return np.asarray(np.clip(by_points, 1.0, None))
    many = first_lag(blocks)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = _variance(residuals) / (_variance(blocks) * (1 + many) / (1 - many))
    by_blocks = np.where(np.isfinite(share), share * np.isfinite(blocks).sum(axis=1), np.inf)
    return np.asarray(np.clip(np.minimum(by_points, by_blocks), 1.0, np.maximum(count, 1.0)))


def block_means(values: Floats, width: int) -> Floats:
    """Means of each `width` neighbours of each row, the newest ones whole; NaN where a block has less than half of its points."""
    blocks = values.shape[1] // width
    parts = values[:, values.shape[1] - blocks * width:].reshape(len(values), blocks, width)
    is_known = np.isfinite(parts)
    count = is_known.sum(axis=2)
    sums = np.where(is_known, parts, 0.0).sum(axis=2)
    return np.where(2 * count >= width, sums / np.maximum(count, 1), np.nan)


def _variance(values: Floats) -> Floats:
    is_known = np.isfinite(values)
    count = np.maximum(is_known.sum(axis=1), 1)
    mean = np.where(is_known, values, 0.0).sum(axis=1) / count
    return np.asarray((np.where(is_known, values - mean[:, None], 0.0) ** 2).sum(axis=1) / count)


def student_quantile(freedom: Floats, confidence: float = 0.95) -> Floats:
    """The two-sided quantile of Student's t for a confidence, such as 2.2281 for 10 degrees of freedom; inf for none."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scaled = z * (8 * freedom + 3) / (8 * freedom + 1)
        return np.where(freedom > 0, np.sqrt(freedom * np.expm1(scaled**2 / freedom)), np.inf)


def student_probability(t: Floats, freedom: Floats) -> Floats:
    """Probability of a |t| at least this large without an effect; 1 without a degree of freedom or where t is no number."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        z = np.sqrt(freedom * np.log1p(t**2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    is_known = (freedom > 0) & ~np.isnan(z)
    return np.where(is_known, np.asarray(_erfc(np.where(is_known, z, 0.0) / math.sqrt(2)), np.float64), 1.0)
