//! Summaries and confidence bounds.

use statrs::distribution::{Beta, ContinuousCDF};

use crate::report::Summary;

use super::measure;

/// Upper end of the one-sided Clopper-Pearson interval for a share, `k` of `n` independent trials having shown it:
/// the `1 - alpha` quantile of Beta(k + 1, n - k) (Clopper and Pearson, Biometrika 26, 1934).
pub fn clopper_pearson_upper(k: usize, n: usize, alpha: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    if k == 0 {
        return 1.0 - alpha.powf(1.0 / n as f64);
    }
    Beta::new(k as f64 + 1.0, (n - k) as f64).map_or(1.0, |beta| beta.inverse_cdf(1.0 - alpha))
}

/// Quantile by linear interpolation between order statistics; 0 of nothing. NaN sorts last.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    measure::quantile(&mut values.to_vec(), share)
}

/// Summary over the Haar-drawn values; `all` adds planned ones to the maximum only (METHOD 4).
pub(crate) fn summary(haar: &[f64], all: &[f64]) -> Summary {
    let n = haar.len() as f64;
    let mean = if haar.is_empty() { 0.0 } else { haar.iter().sum::<f64>() / n };
    let variance =
        if haar.len() < 2 { 0.0 } else { haar.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) };
    Summary {
        mean,
        // The spread about an infinite mean is no number.
        standard_deviation: if mean.is_finite() { variance.sqrt() } else { f64::INFINITY },
        median: quantile(haar, 0.5),
        quantile_95: quantile(haar, 0.95),
        max: maximum(all),
    }
}

/// Largest value; 0 of nothing, NaN if any is.
pub(crate) fn maximum(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m: f64, v| if v.is_nan() || m.is_nan() { f64::NAN } else { m.max(*v) })
}
