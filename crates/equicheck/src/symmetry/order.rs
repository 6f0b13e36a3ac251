//! Rows that come in no definite order, `~ S(axis)`: each is matched with the nearest that is left. Exact where errors
//! are smaller than half the distance of any two rows.

/// For each of `expected` in turn, the position of the row of `value` that is nearest of those left. Rows are as many
/// and as long on both sides.
pub(super) fn matched(value: &[Vec<f64>], expected: &[Vec<f64>]) -> Vec<usize> {
    let mut sorted: Vec<(f64, usize)> =
        value.iter().enumerate().map(|(i, row)| (projection(row), i)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = Free::new(sorted.len());
    let mut result = Vec::with_capacity(expected.len());
    for row in expected {
        let at = projection(row);
        let start = sorted.partition_point(|(p, _)| *p < at);
        let (mut left, mut right) = (free.below(start), free.from(start));
        let mut best: Option<(f64, usize)> = None;
        loop {
            // Projections are no further apart than the rows themselves.
            let near = |k: &usize| best.is_none_or(|(distance, _)| (sorted[*k].0 - at).abs() <= distance);
            let k = match (left.filter(near), right.filter(near)) {
                (Some(l), Some(r)) if at - sorted[l].0 < sorted[r].0 - at => l,
                (_, Some(r)) => r,
                (Some(l), None) => l,
                (None, None) => break,
            };
            let distance = distance(&value[sorted[k].1], row);
            if best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, k));
            }
            if right == Some(k) {
                right = free.from(k + 1);
            } else {
                left = free.below(k);
            }
        }
        let Some((_, k)) = best else { break };
        free.take(k);
        result.push(sorted[k].1);
    }
    result
}

/// The component along a fixed unit vector in general position.
fn projection(row: &[f64]) -> f64 {
    let weight = |k: usize| 1.0 + (0.618_033_988_749_895 * (k + 1) as f64).fract();
    let (sum, squares) = row
        .iter()
        .enumerate()
        .fold((0.0, 0.0), |(sum, squares), (k, v)| (sum + weight(k) * v, squares + weight(k) * weight(k)));
    if row.is_empty() { 0.0 } else { sum / f64::sqrt(squares) }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// Positions 0..n that are taken one by one. Position k stands at k + 1, between two that are never taken.
struct Free {
    /// Towards the next free position, upwards and downwards: itself where it is free.
    up: Vec<usize>,
    down: Vec<usize>,
}

impl Free {
    fn new(n: usize) -> Self {
        Self { up: (0..n + 2).collect(), down: (0..n + 2).collect() }
    }

    /// The first free position from `k` on.
    fn from(&mut self, k: usize) -> Option<usize> {
        let end = self.up.len() - 1;
        let found = follow(&mut self.up, k + 1);
        (found < end).then(|| found - 1)
    }

    /// The last free position below `k`.
    fn below(&mut self, k: usize) -> Option<usize> {
        follow(&mut self.down, k).checked_sub(1)
    }

    fn take(&mut self, k: usize) {
        self.up[k + 1] = k + 2;
        self.down[k + 1] = k;
    }
}

/// The end of a chain, which is shortened on the way.
fn follow(links: &mut [usize], mut k: usize) -> usize {
    while links[k] != k {
        links[k] = links[links[k]];
        k = links[k];
    }
    k
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by looking at all that are left.
    fn slowly(value: &[Vec<f64>], expected: &[Vec<f64>]) -> Vec<usize> {
        let mut left: Vec<usize> = (0..value.len()).collect();
        expected
            .iter()
            .map(|row| {
                let nearest = (0..left.len()).min_by(|a, b| {
                    distance(&value[left[*a]], row).total_cmp(&distance(&value[left[*b]], row))
                });
                left.swap_remove(nearest.unwrap())
            })
            .collect()
    }

    fn rows(n: usize, m: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / 2f64.powi(31)
        };
        (0..n).map(|_| (0..m).map(|_| draw()).collect()).collect()
    }

    #[test]
    fn the_nearest_that_is_left_is_taken() {
        for (n, m) in [(0, 3), (1, 1), (7, 1), (40, 2), (61, 5), (5, 0)] {
            for seed in 0..8 {
                let (value, expected) = (rows(n, m, seed), rows(n, m, seed + 100));
                let (fast, slow) = (matched(&value, &expected), slowly(&value, &expected));
                if m > 0 {
                    assert_eq!(fast, slow, "{n} rows of {m}");
                }
                let mut all = fast.clone();
                all.sort_unstable();
                assert_eq!(all, (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn rows_in_another_order_are_found_again() {
        let expected = rows(2000, 3, 1);
        let order: Vec<usize> = (0..2000).map(|i| (i * 7 + 3) % 2000).collect();
        let value: Vec<Vec<f64>> =
            order.iter().map(|i| expected[*i].iter().map(|v| v + 1e-9).collect()).collect();
        for (row, found) in matched(&value, &expected).into_iter().enumerate() {
            assert_eq!(order[found], row);
        }
        // Equal rows, as of an edge list with positions far apart, are interchangeable.
        let twice = vec![vec![3.0, 4.0], vec![1.0, 2.0], vec![3.0, 4.0]];
        assert_eq!(matched(&twice, &[vec![1.0, 2.0], vec![3.0, 4.0], vec![3.0, 4.0]])[0], 1);
    }
}
