//! Do two samples follow one law? The energy distance, its permutation test, and the test's power.
//!
//! Szekely and Rizzo, "Energy statistics: a class of statistics based on distances", J. Stat. Plan. Inference 143, 1249
//! (2013). The distance is zero if and only if the laws agree, in any dimension, and the permutation test holds its
//! level exactly, whatever the law.

use statrs::distribution::{ContinuousCDF, Gamma, Normal};

use super::sampling::Draws;

/// Permutations that reach the observed distance before a p value is large enough to stop at.
const REACHED: usize = 10;
/// Splits from which the law of the distance without any difference is fitted.
const NULL_SPLITS: usize = 300;
/// Simulated pairs of samples per shift.
const REPLICATES: usize = 40;
/// Share of simulated tests that must find a shift.
const POWER: f64 = 0.8;
/// Largest shift that is tried, in units of the spread.
const LARGEST_SHIFT: f64 = 8.0;

/// Two samples of equal size, by the distances of all their entries: the first sample's, then the second's.
#[derive(Debug, Clone)]
pub(crate) struct Pooled {
    /// Entries of each sample.
    n: usize,
    squares: Vec<f64>,
    distances: Distances,
}

/// A symmetric matrix of distances, with sums that make the energy distance of any split cheap.
#[derive(Debug, Clone)]
struct Distances {
    n: usize,
    matrix: Vec<f64>,
    rows: Vec<f64>,
    /// Over unordered pairs.
    total: f64,
}

impl Distances {
    fn new(n: usize, matrix: Vec<f64>) -> Self {
        let rows: Vec<f64> = matrix.chunks(2 * n).map(|row| row.iter().sum()).collect();
        let total = rows.iter().sum::<f64>() / 2.0;
        Self { n, matrix, rows, total }
    }

    /// `2 E|X - Y| - E|X - X'| - E|Y - Y'|` where X is the entries `first` and Y all others, over all pairs of entries,
    /// equal ones included.
    fn energy(&self, first: &[usize]) -> f64 {
        let width = 2 * self.n;
        let mut within = 0.0;
        for (k, i) in first.iter().enumerate() {
            let row = &self.matrix[i * width..(i + 1) * width];
            within += first[..k].iter().map(|j| row[*j]).sum::<f64>();
        }
        let cross = first.iter().map(|i| self.rows[*i]).sum::<f64>() - 2.0 * within;
        let others = self.total - within - cross;
        2.0 * (cross - within - others) / (self.n as f64).powi(2)
    }
}

impl Pooled {
    /// From two samples of as many vectors of equal lengths.
    pub(crate) fn new(first: &[Vec<f64>], second: &[Vec<f64>]) -> Self {
        debug_assert_eq!(first.len(), second.len());
        let all: Vec<&Vec<f64>> = first.iter().chain(second).collect();
        let width = all.len();
        let mut squares = vec![0.0; width * width];
        for i in 0..width {
            for j in 0..i {
                let square: f64 = all[i].iter().zip(all[j]).map(|(a, b)| (a - b) * (a - b)).sum();
                squares[i * width + j] = square;
                squares[j * width + i] = square;
            }
        }
        let distances = Distances::new(first.len(), squares.iter().map(|s| s.sqrt()).collect());
        Self { n: first.len(), squares, distances }
    }

    /// `2 E|X - Y| - E|X - X'| - E|Y - Y'|`: the square of `scipy.stats.energy_distance` in one dimension.
    pub(crate) fn energy_distance(&self) -> f64 {
        self.distances.energy(&(0..self.n).collect::<Vec<_>>())
    }

    /// Of the permutation test, with up to `most` random splits: it stops where ten of them have reached the observed
    /// distance (Besag and Clifford, Biometrika 78, 301 (1991)). At least the chance of so large a distance, and no
    /// smaller than `1 / (most + 1)`.
    pub(crate) fn p_value(&self, most: usize, draws: &mut Draws) -> f64 {
        // Splits into the same halves differ by the order of summation.
        let observed = self.energy_distance() - 1e-12 * self.distances.total / (self.n as f64).powi(2);
        let mut order: Vec<usize> = (0..2 * self.n).collect();
        let mut reached = 0;
        for done in 1..=most {
            split(&mut order, draws);
            if self.distances.energy(&order[..self.n]) >= observed {
                reached += 1;
                if reached == REACHED {
                    return REACHED as f64 / done as f64;
                }
            }
        }
        (reached + 1) as f64 / (most + 1) as f64
    }

    /// What the test would make of shifts, if the two samples had the law that they have about their own means.
    pub(crate) fn shifts(&self, draws: &mut Draws) -> Shifts {
        Shifts::new(self, draws)
    }
}

/// A random half of the entries comes first.
fn split(order: &mut [usize], draws: &mut Draws) {
    let n = order.len();
    for k in 0..n / 2 {
        order.swap(k, k + draws.below(n - k));
    }
}

/// Simulated tests: the entries about the mean of their sample, split at random into two samples, one of which is
/// shifted. The direction of the shift is that of a random fluctuation: shifts that hide best.
#[derive(Debug)]
pub(crate) struct Shifts {
    n: usize,
    /// Of the entries about their means.
    squares: Vec<f64>,
    spread: f64,
    replicates: Vec<Replicate>,
    /// Mean, standard deviation and skewness of the energy distance without a shift.
    null: [f64; 3],
}

#[derive(Debug)]
struct Replicate {
    /// The first half is shifted.
    order: Vec<usize>,
    /// Projection of each entry on the direction of the shift.
    along: Vec<f64>,
    /// Sum of the distances within both halves, over unordered pairs.
    within: f64,
    /// Sum of all distances, the same.
    total: f64,
}

impl Shifts {
    fn new(pooled: &Pooled, draws: &mut Draws) -> Self {
        let (n, width) = (pooled.n, 2 * pooled.n);
        let products = centred_products(&pooled.squares, n);
        let at = |i: usize, j: usize| products[i * width + j];
        let squares: Vec<f64> = (0..width * width)
            .map(|k| {
                let (i, j) = (k / width, k % width);
                if i == j { 0.0 } else { (at(i, i) + at(j, j) - 2.0 * at(i, j)).max(0.0) }
            })
            .collect();
        let degrees = 2.0 * (n as f64 - 1.0).max(1.0);
        let spread = ((0..width).map(|i| at(i, i).max(0.0)).sum::<f64>() / degrees).sqrt();
        let distances = Distances::new(n, squares.iter().map(|s| s.sqrt()).collect());
        let mut order: Vec<usize> = (0..width).collect();
        let energies: Vec<f64> = (0..NULL_SPLITS)
            .map(|_| {
                split(&mut order, draws);
                distances.energy(&order[..n])
            })
            .collect();
        let replicates = (0..REPLICATES)
            .map(|_| {
                split(&mut order, draws);
                let cross: f64 = order[..n]
                    .iter()
                    .map(|i| order[n..].iter().map(|j| distances.matrix[i * width + j]).sum::<f64>())
                    .sum();
                let weights: Vec<f64> = (0..width).map(|_| draws.normal()).collect();
                let along: Vec<f64> =
                    (0..width).map(|i| (0..width).map(|j| weights[j] * at(i, j)).sum()).collect();
                let length = along.iter().zip(&weights).map(|(a, w)| a * w).sum::<f64>().max(0.0).sqrt();
                let unit = if length > 0.0 { 1.0 / length } else { 0.0 };
                Replicate {
                    order: order.clone(),
                    along: along.iter().map(|a| a * unit).collect(),
                    within: distances.total - cross,
                    total: distances.total,
                }
            })
            .collect();
        Self { n, squares, spread, replicates, null: moments(&energies) }
    }

    /// Sum of the distances between the halves after a shift.
    fn cross(&self, replicate: &Replicate, shift: f64) -> f64 {
        let (n, width) = (self.n, 2 * self.n);
        let shift = shift * self.spread;
        let (first, second) = replicate.order.split_at(n);
        let mut sum = 0.0;
        for i in first {
            let row = &self.squares[i * width..(i + 1) * width];
            let own = replicate.along[*i];
            for j in second {
                let square = row[*j] + 2.0 * shift * (own - replicate.along[*j]) + shift * shift;
                sum += square.max(0.0).sqrt();
            }
        }
        sum
    }

    fn energy(&self, replicate: &Replicate, cross: f64) -> f64 {
        2.0 * (cross - replicate.within) / (self.n as f64).powi(2)
    }

    /// Chances that tests at these levels find a shift.
    fn powers(&self, shift: f64, levels: [f64; 2]) -> [f64; 2] {
        let critical = levels.map(|level| self.critical(level));
        let mut found = [0.0; 2];
        for replicate in &self.replicates {
            let cross = self.cross(replicate, shift);
            let energy = self.energy(replicate, cross);
            // The permutation test sees the shift in the pooled sample too: all distances grow.
            let growth = (cross + replicate.within) / replicate.total;
            for (found, critical) in found.iter_mut().zip(critical) {
                *found += f64::from(u8::from(energy > critical * growth));
            }
        }
        found.map(|count: f64| count / self.replicates.len() as f64)
    }

    /// Distance that is reached with probability `level` without a difference: the quantile of a Pearson III law with
    /// the mean, variance and skewness of random splits.
    fn critical(&self, level: f64) -> f64 {
        let [mean, deviation, skewness] = self.null;
        let standard = if skewness > 1e-3 {
            let shape = 4.0 / (skewness * skewness);
            Gamma::new(shape, 1.0)
                .map_or(f64::INFINITY, |g| (g.inverse_cdf(1.0 - level) - shape) / shape.sqrt())
        } else {
            Normal::standard().inverse_cdf(1.0 - level)
        };
        mean + deviation * standard
    }

    /// Smallest shift, in units of the spread, that a test at the first level and another on fresh draws at the second
    /// find with 80 % probability together; infinite if none up to 8 is.
    pub(crate) fn detectable(&self, levels: [f64; 2]) -> f64 {
        let found = |shift: f64| self.powers(shift, levels).iter().product::<f64>() >= POWER;
        if !found(LARGEST_SHIFT) {
            return f64::INFINITY;
        }
        // To 2 %: what 40 replicates leave open is more.
        let (mut low, mut high) = (2e-2, LARGEST_SHIFT);
        for _ in 0..8 {
            let middle = (low * high).sqrt();
            if found(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    /// Shift, in units of the spread, that would give this energy distance on average; 0 if none is needed.
    pub(crate) fn equivalent(&self, energy: f64) -> f64 {
        let mean = |shift: f64| {
            let energies = self.replicates.iter().map(|r| self.energy(r, self.cross(r, shift)));
            energies.sum::<f64>() / self.replicates.len() as f64
        };
        if self.spread == 0.0 || energy <= mean(0.0) {
            return 0.0;
        }
        let (mut low, mut high) = (0.0, 0.05);
        while mean(high) < energy {
            (low, high) = (high, 2.0 * high);
            if high > 1e9 {
                return f64::INFINITY;
            }
        }
        for _ in 0..8 {
            let middle = f64::midpoint(low, high);
            if mean(middle) < energy {
                low = middle;
            } else {
                high = middle;
            }
        }
        f64::midpoint(low, high)
    }
}

/// Inner products of the entries about the mean of their own sample, from squared distances.
fn centred_products(squares: &[f64], n: usize) -> Vec<f64> {
    let width = 2 * n;
    let mut products = vec![0.0; width * width];
    for (rows, columns) in [(0, 0), (0, n), (n, 0), (n, n)] {
        let at = |i: usize, j: usize| squares[(rows + i) * width + columns + j];
        let size = n as f64;
        let by_row: Vec<f64> = (0..n).map(|i| (0..n).map(|j| at(i, j)).sum::<f64>() / size).collect();
        let by_column: Vec<f64> = (0..n).map(|j| (0..n).map(|i| at(i, j)).sum::<f64>() / size).collect();
        let mean = by_row.iter().sum::<f64>() / size;
        for i in 0..n {
            for j in 0..n {
                products[(rows + i) * width + columns + j] =
                    -0.5 * (at(i, j) - by_row[i] - by_column[j] + mean);
            }
        }
    }
    products
}

/// Mean, standard deviation and skewness.
fn moments(values: &[f64]) -> [f64; 3] {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let about = |power: i32| values.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / n;
    let variance = about(2);
    if variance == 0.0 { [mean, 0.0, 0.0] } else { [mean, variance.sqrt(), about(3) / variance.powf(1.5)] }
}

/// p values adjusted for each other (Holm, Scand. J. Statist. 6, 65 (1979)): those at or below a level are significant
/// with an error probability of at most that level for all together, however they depend on each other.
pub(crate) fn holm(p_values: &[f64]) -> Vec<f64> {
    let count = p_values.len();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; count];
    let mut largest: f64 = 0.0;
    for (rank, k) in order.into_iter().enumerate() {
        largest = largest.max(((count - rank) as f64 * p_values[k]).min(1.0));
        adjusted[k] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::sampling::Purpose;
    use super::*;

    fn draws(seed: u64) -> Draws {
        Draws::new(seed, 0, 0, Purpose::Law)
    }

    fn rows(value: &Value) -> Vec<Vec<f64>> {
        let row = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        value.as_array().unwrap().iter().map(row).collect()
    }

    /// `n` standard normal vectors, moved along the first axis.
    fn sample(n: usize, dimension: usize, shift: f64, draws: &mut Draws) -> Vec<Vec<f64>> {
        (0..n)
            .map(|_| (0..dimension).map(|k| draws.normal() + if k == 0 { shift } else { 0.0 }).collect())
            .collect()
    }

    /// From `tests/data/make_energy.py`.
    #[test]
    fn distances_and_p_values_agree_with_scipy_and_with_all_splits() {
        let reference: Value = serde_json::from_str(include_str!("../../tests/data/energy.json")).unwrap();
        let cases = reference["cases"].as_array().unwrap();
        assert!(cases.len() >= 8);
        for (k, case) in cases.iter().enumerate() {
            let pooled = Pooled::new(&rows(&case["first"]), &rows(&case["second"]));
            let squared = case["squared"].as_f64().unwrap();
            let ours = pooled.energy_distance();
            assert!((ours - squared).abs() < 1e-12, "{k}: {ours}, {squared}");
            if let Some(scipy) = case["scipy"].as_f64() {
                assert!((ours.sqrt() - scipy).abs() < 1e-12, "{k}: {ours}, {scipy}");
            }
            if let Some(exact) = case["p"].as_f64() {
                // 10 / splits is a p value, 9 / (splits - 1) the estimate without bias, within a third; the mean of 900
                // is within 1 %.
                let unbiased = |seed| 9.0 / (10.0 / pooled.p_value(1_000_000, &mut draws(seed)) - 1.0);
                let mean = (0..900).map(unbiased).sum::<f64>() / 900.0;
                assert!((mean - exact).abs() < 0.04 * exact, "{k}: {mean}, {exact}");
            }
        }
    }

    #[test]
    fn p_values_are_uniform_without_a_difference_and_least_with_one() {
        let mut below = [0; 3];
        let levels = [0.5, 0.1, 0.02];
        for seed in 0..2000 {
            let mut draws = draws(seed);
            let pooled = Pooled::new(&sample(10, 2, 0.0, &mut draws), &sample(10, 2, 0.0, &mut draws));
            let p = pooled.p_value(500, &mut draws);
            for (count, level) in below.iter_mut().zip(levels) {
                *count += u32::from(p <= level);
            }
        }
        for (count, level) in below.iter().zip(levels) {
            let (expected, deviation) = (2000.0 * level, (2000.0 * level * (1.0 - level)).sqrt());
            assert!((f64::from(*count) - expected).abs() < 4.0 * deviation, "{level}: {count}");
        }
        let mut draws = draws(1);
        let far = Pooled::new(&sample(20, 2, 9.0, &mut draws), &sample(20, 2, 0.0, &mut draws));
        assert_eq!(far.p_value(999, &mut draws), 1e-3);
    }

    /// Twelve tests that share a sample by fours, and the most significant again on fresh draws, as in an audit.
    #[test]
    fn a_thousand_healthy_audits_raise_no_alarm() {
        let (mut first, mut alarms) = (0, 0);
        for seed in 0..1000 {
            let mut draws = draws(seed);
            let p_values: Vec<f64> = (0..3)
                .flat_map(|_| {
                    let shared = sample(12, 3, 0.0, &mut draws);
                    (0..4)
                        .map(|_| {
                            let own = sample(12, 3, 0.0, &mut draws);
                            Pooled::new(&own, &shared).p_value(24_000, &mut draws)
                        })
                        .collect::<Vec<_>>()
                })
                .collect();
            if holm(&p_values).into_iter().fold(1.0, f64::min) <= 1e-3 {
                first += 1;
                let again = Pooled::new(&sample(12, 3, 0.0, &mut draws), &sample(12, 3, 0.0, &mut draws));
                alarms += u32::from(again.p_value(24_000, &mut draws) <= 1e-3);
            }
        }
        // At a rate of 1e-3 a first look is significant in more than 6 of 1,000 audits with a probability of 1e-4.
        assert!(first <= 6, "{first}");
        assert_eq!(alarms, 0);
    }

    #[test]
    fn equal_entries_are_no_difference() {
        let constant = vec![vec![1.0, 2.0]; 10];
        let pooled = Pooled::new(&constant, &constant);
        assert_eq!(pooled.energy_distance(), 0.0);
        assert_eq!(pooled.p_value(100, &mut draws(0)), 1.0);
        assert_eq!(pooled.shifts(&mut draws(0)).equivalent(pooled.energy_distance()), 0.0);
    }

    /// Shifts of the stated size, in fresh samples, are found as often as stated.
    #[test]
    fn the_stated_power_is_that_of_the_test() {
        let levels = [0.02, 0.05];
        for dimension in [1, 6] {
            let mut stated: Vec<f64> = (0..9)
                .map(|seed| {
                    let mut draws = draws(seed);
                    let first = sample(25, dimension, 0.0, &mut draws);
                    let second = sample(25, dimension, 0.0, &mut draws);
                    Pooled::new(&first, &second).shifts(&mut draws).detectable(levels)
                })
                .collect();
            // The spread of a standard normal vector is the root of its dimension.
            let shift = super::super::measure::median(&mut stated) * (dimension as f64).sqrt();
            let found = (0..400)
                .filter(|seed| {
                    let mut draws = draws(1000 + seed);
                    levels.iter().all(|level| {
                        let first = sample(25, dimension, shift, &mut draws);
                        let second = sample(25, dimension, 0.0, &mut draws);
                        Pooled::new(&first, &second).p_value(500, &mut draws) <= *level
                    })
                })
                .count();
            // 400 tests leave 2 %, the stated shift 4 % of itself.
            assert!(
                (280..=360).contains(&found),
                "{dimension}: a shift of {shift} was found {found} times of 400"
            );
        }
    }

    #[test]
    fn the_equivalent_of_a_shift_is_the_shift() {
        for (dimension, shift) in [(1, 0.8), (1, 4.0), (9, 3.0)] {
            let mut draws = draws(7);
            let first = sample(150, dimension, shift, &mut draws);
            let second = sample(150, dimension, 0.0, &mut draws);
            let pooled = Pooled::new(&first, &second);
            let found = pooled.shifts(&mut draws).equivalent(pooled.energy_distance());
            let expected = shift / (dimension as f64).sqrt();
            assert!((found / expected - 1.0).abs() < 0.2, "{dimension}, {shift}: {found}, {expected}");
        }
    }

    /// The table of Holm's paper has no numbers; these are by hand.
    #[test]
    fn holm_by_hand() {
        assert_eq!(holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
        assert_eq!(holm(&[0.5, 0.5]), [1.0, 1.0]);
        assert_eq!(holm(&[0.2]), [0.2]);
        assert!(holm(&[]).is_empty());
    }
}
