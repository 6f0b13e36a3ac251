//! Summaries and confidence bounds.

use statrs::distribution::{Beta, ContinuousCDF};
use statrs::function::beta::ln_beta;

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

/// Upper end of a confidence sequence for a share: it holds at all times together, so that one may look at any time
/// and stop for whatever reason. `sup {p: B(1 + k, 1 + n - k) / (p^k (1 - p)^(n - k)) < 1 / alpha}` (METHOD 5), the
/// mixture of likelihood ratios under a uniform prior with Ville's inequality (Robbins, Ann. Math. Stat. 41, 1970).
pub fn confidence_sequence_upper(k: usize, n: usize, alpha: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    let (hits, misses) = (k as f64, (n - k) as f64);
    if k == 0 {
        return 1.0 - (alpha / (misses + 1.0)).powf(1.0 / misses);
    }
    let mixture = ln_beta(hits + 1.0, misses + 1.0);
    let inside = |p: f64| mixture - hits * p.ln() - misses * (-p).ln_1p() < -alpha.ln();
    // The ratio is least at k / n and grows beyond it.
    let (mut low, mut high) = (hits / (hits + misses), 1.0);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if inside(middle) { low = middle } else { high = middle }
    }
    high
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// From `tests/data/make_statistics.py`.
    fn reference() -> Value {
        serde_json::from_str(include_str!("../../tests/data/statistics.json")).unwrap()
    }

    fn number(value: &Value) -> f64 {
        value.as_f64().unwrap()
    }

    #[test]
    fn clopper_pearson_agrees_with_scipy() {
        let reference = reference();
        let cases = reference["clopper_pearson"].as_array().unwrap();
        assert!(cases.len() > 80);
        for case in cases {
            let (k, n) = (case["k"].as_u64().unwrap() as usize, case["n"].as_u64().unwrap() as usize);
            let ours = clopper_pearson_upper(k, n, number(&case["alpha"]));
            let theirs = number(&case["upper"]);
            assert!((ours - theirs).abs() <= 1e-10 * theirs, "{case}: {ours}");
        }
        assert_eq!(clopper_pearson_upper(0, 0, 0.05), 1.0, "no trial, no knowledge");
    }

    #[test]
    fn confidence_sequences_agree_with_scipy() {
        let reference = reference();
        let cases = reference["confidence_sequence"].as_array().unwrap();
        assert!(cases.len() > 80);
        for case in cases {
            let (k, n) = (case["k"].as_u64().unwrap() as usize, case["n"].as_u64().unwrap() as usize);
            let ours = confidence_sequence_upper(k, n, number(&case["alpha"]));
            let theirs = number(&case["upper"]);
            assert!((ours - theirs).abs() <= 1e-9 * theirs, "{case}: {ours}");
            // It pays for the freedom to stop.
            assert!(ours >= clopper_pearson_upper(k, n, number(&case["alpha"])), "{case}");
        }
        assert_eq!(confidence_sequence_upper(0, 0, 0.05), 1.0, "no trial, no knowledge");
    }

    /// P(X <= k) for X binomial(n, p), summed from the smallest terms on.
    fn binomial_cdf(k: usize, n: usize, p: f64) -> f64 {
        let mut term = (1.0 - p).powi(n as i32);
        let mut sum = term;
        for i in 0..k {
            term *= (n - i) as f64 / (i + 1) as f64 * p / (1.0 - p);
            sum += term;
        }
        sum
    }

    /// The definition: at the bound, as few as `k` violations have probability alpha.
    #[test]
    fn clopper_pearson_is_exact_and_covers() {
        let (n, alpha) = (50, 0.05);
        let bounds: Vec<f64> = (0..=n).map(|k| clopper_pearson_upper(k, n, alpha)).collect();
        for (k, bound) in bounds.iter().enumerate().take(n) {
            assert!((binomial_cdf(k, n, *bound) - alpha).abs() < 1e-9, "{k} of {n}: {bound}");
        }
        assert!(bounds.is_sorted() && bounds[n] == 1.0);
        for step in 1..1000 {
            let p = f64::from(step) / 1000.0;
            // The bound covers p unless too few violations were seen.
            let missed = bounds.iter().take_while(|bound| **bound < p).count();
            let missing = if missed == 0 { 0.0 } else { binomial_cdf(missed - 1, n, p) };
            assert!(missing <= alpha * (1.0 + 1e-9), "true share {p}: missed with probability {missing}");
        }
    }

    #[test]
    fn summaries_agree_with_numpy() {
        let reference = reference();
        let shares = reference["shares"].as_array().unwrap();
        for case in reference["summaries"].as_array().unwrap() {
            let values: Vec<f64> = case["values"].as_array().unwrap().iter().map(number).collect();
            let near =
                |ours: f64, theirs: &Value| (ours - number(theirs)).abs() <= 1e-14 * number(theirs).abs();
            for (share, theirs) in shares.iter().zip(case["quantiles"].as_array().unwrap()) {
                let ours = quantile(&values, number(share));
                assert!(near(ours, theirs), "{share} of {values:?}: {ours}, {theirs}");
            }
            let all: Vec<f64> = values.iter().copied().chain([99.0]).collect();
            let ours = summary(&values, &all);
            assert!(near(ours.mean, &case["mean"]));
            assert!(near(ours.standard_deviation, &case["standard_deviation"]));
            assert!(
                near(ours.median, &case["quantiles"][3]) && near(ours.quantile_95, &case["quantiles"][5])
            );
            assert_eq!(ours.max, 99.0, "planned elements enter the maximum, and nothing else");
        }
    }

    #[test]
    fn summaries_of_little_and_of_what_is_not_finite() {
        let none = summary(&[], &[]);
        assert_eq!((none.mean, none.standard_deviation, none.median, none.max), (0.0, 0.0, 0.0, 0.0));
        let one = summary(&[2.0], &[2.0]);
        assert_eq!((one.mean, one.standard_deviation, one.quantile_95, one.max), (2.0, 0.0, 2.0, 2.0));
        let broken = summary(&[1.0, f64::INFINITY, 2.0], &[]);
        assert_eq!(broken.mean, f64::INFINITY);
        assert_eq!(broken.standard_deviation, f64::INFINITY);
        assert_eq!((broken.median, broken.quantile_95), (2.0, f64::INFINITY));
        for nan in [f64::NAN, -f64::NAN] {
            assert!(maximum(&[1.0, nan, 2.0]).is_nan());
            assert_eq!(quantile(&[nan, 1.0, 2.0, 3.0, nan], 0.5), 3.0, "of either sign, it sorts last");
        }
    }
}
