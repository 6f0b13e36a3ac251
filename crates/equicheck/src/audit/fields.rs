//! Smooth fields that are known between pixels, and what a model without any grid of its own would make of them:
//! ingredients of the interpolation control (METHOD 10).

use std::f64::consts::PI;

use super::sampling::Draws;

/// Plane waves per field.
const WAVES: usize = 16;
/// Least number of pixels along every axis on which a field that is smooth fits.
pub(crate) const LEAST_SIZE: usize = 8;
/// Gaussian windows per radius of the inscribed disc (ball): at its rim a field has 3e-4 of its height, so that neither
/// corners that turn in nor padding have a part in it.
const WINDOWS: f64 = 4.0;

/// Random plane waves of wave vectors below half of Nyquist's under a Gaussian window: unit variance at the centre of
/// the grid, nothing at its border, smooth everywhere. Coordinates are indices along the axes, from the centre.
#[derive(Debug, Clone)]
pub(crate) struct SmoothField {
    waves: Vec<Wave>,
    /// Standard deviation of the window, in pixels.
    width: f64,
}

#[derive(Debug, Clone)]
struct Wave {
    /// Radian per pixel along each axis.
    vector: Vec<f64>,
    phase: f64,
}

impl SmoothField {
    /// Draws a field for a grid of this shape.
    pub(crate) fn draw(sizes: &[usize], draws: &mut Draws) -> Self {
        let radius = inscribed(sizes);
        let width = (radius / WINDOWS).max(1.0);
        let largest = PI / 2.0;
        let waves = (0..WAVES).map(|_| {
            let direction: Vec<f64> = sizes.iter().map(|_| draws.normal()).collect();
            let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
            // Uniform in the disc (ball): all waves below the bound have equal power.
            let size = largest * draws.uniform().powf(1.0 / sizes.len() as f64);
            Wave {
                vector: direction.iter().map(|v| size * v / length).collect(),
                phase: 2.0 * PI * draws.uniform(),
            }
        });
        Self { waves: waves.collect(), width }
    }

    /// The same with waves `factor` times as long, under the same window: as if sampled on a finer grid.
    pub(crate) fn stretched(&self, factor: f64) -> Self {
        let longer = |wave: &Wave| Wave {
            vector: wave.vector.iter().map(|k| k / factor).collect(),
            phase: wave.phase,
        };
        Self { waves: self.waves.iter().map(longer).collect(), width: self.width }
    }

    /// Values at the points `base + step i` for every pixel i of a grid of this shape, row-major: `base` in pixels from
    /// the first one, `step[a][b]` along axis a per index along axis b.
    pub(crate) fn at(&self, sizes: &[usize], base: &[f64], step: &[Vec<f64>]) -> Vec<f64> {
        let n = sizes.len();
        let pixels: usize = sizes.iter().product();
        let from_centre: Vec<f64> = (0..n).map(|a| base[a] - (sizes[a] - 1) as f64 / 2.0).collect();
        let mut sum = vec![0.0; pixels];
        let last = n - 1;
        let rows = pixels / sizes[last].max(1);
        let mut index = vec![0usize; n];
        for wave in &self.waves {
            let offset: f64 =
                wave.vector.iter().zip(&from_centre).map(|(k, x)| k * x).sum::<f64>() + wave.phase;
            let rate: Vec<f64> =
                (0..n).map(|b| wave.vector.iter().zip(step).map(|(k, row)| k * row[b]).sum()).collect();
            let along: Vec<(f64, f64)> =
                (0..sizes[last]).map(|i| (rate[last] * i as f64).sin_cos()).collect();
            index.fill(0);
            for row in 0..rows {
                let start = offset + (0..last).map(|b| rate[b] * index[b] as f64).sum::<f64>();
                let (sine, cosine) = start.sin_cos();
                let row = &mut sum[row * sizes[last]..][..sizes[last]];
                for (value, (s, c)) in row.iter_mut().zip(&along) {
                    *value += cosine * c - sine * s;
                }
                advance(&mut index[..last], &sizes[..last]);
            }
        }
        let height = (2.0 / self.waves.len() as f64).sqrt();
        let per_square = -0.5 / (self.width * self.width);
        index.fill(0);
        for value in &mut sum {
            let square: f64 = (0..n)
                .map(|a| {
                    let turned: f64 = step[a].iter().zip(&index).map(|(s, i)| s * *i as f64).sum();
                    (from_centre[a] + turned).powi(2)
                })
                .sum();
            *value *= height * (per_square * square).exp();
            advance(&mut index, sizes);
        }
        sum
    }
}

/// Radius of the disc (ball) between the centres of the outermost pixels.
fn inscribed(sizes: &[usize]) -> f64 {
    sizes.iter().map(|n| n.saturating_sub(1)).min().unwrap_or(0) as f64 / 2.0
}

/// The next index in row-major order.
fn advance(index: &mut [usize], sizes: &[usize]) {
    for (i, size) in index.iter_mut().zip(sizes).rev() {
        *i += 1;
        if *i < *size {
            return;
        }
        *i = 0;
    }
}

/// Index along each axis.
pub(crate) fn index_of(pixel: usize, sizes: &[usize]) -> Vec<usize> {
    let mut rest = pixel;
    let mut index: Vec<usize> = sizes
        .iter()
        .rev()
        .map(|n| {
            let i = rest % n;
            rest /= n;
            i
        })
        .collect();
    index.reverse();
    index
}

/// The reference model of METHOD 10 (ii), equivariant in the continuum: isotropic Gaussian blur, then the positive part.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    /// By axis: the length of the input, and the taps of each output pixel.
    lines: Vec<(usize, Vec<Taps>)>,
}

/// The first source pixel along an axis, and the weights from there on.
type Taps = (usize, Vec<f64>);

impl Reference {
    /// Blur with standard deviation `deviation`, in pixels of the input grid, read off at the pixels of an output grid
    /// of which one pixel is `strides` of the input's; both have one centre. At the border weights are normalised to
    /// what is inside.
    pub(crate) fn new(input: &[usize], output: &[usize], strides: &[f64], deviation: f64) -> Self {
        // Below a quarter of a pixel a Gaussian is one sample.
        let deviation = deviation.max(0.25);
        let lines = input.iter().zip(output).zip(strides).map(|((&n, &m), stride)| {
            let centre = |n: usize| (n as f64 - 1.0) / 2.0;
            let taps = (0..m).map(|i| {
                let at = (i as f64 - centre(m)) * stride + centre(n);
                // Eight standard deviations away a weight is 1e-14 of the largest.
                let start = ((at - 8.0 * deviation).ceil().max(0.0) as usize).min(n - 1);
                let end = ((at + 8.0 * deviation).floor().max(0.0) as usize).clamp(start, n - 1);
                let weights: Vec<f64> =
                    (start..=end).map(|j| (-0.5 * ((j as f64 - at) / deviation).powi(2)).exp()).collect();
                let sum: f64 = weights.iter().sum();
                (start, weights.iter().map(|w| if sum > 0.0 { w / sum } else { 0.0 }).collect())
            });
            (n, taps.collect())
        });
        Self { lines: lines.collect() }
    }

    /// Output channel on the output grid, row-major.
    pub(crate) fn dense(&self, channel: &[f64]) -> Vec<f64> {
        let mut values = channel.to_vec();
        let mut inner: usize = self.lines.iter().map(|(n, _)| n).product();
        let mut outer = 1;
        for (n, taps) in &self.lines {
            inner /= n;
            let mut next = vec![0.0; outer * taps.len() * inner];
            for (from, to) in values.chunks_exact(n * inner).zip(next.chunks_exact_mut(taps.len() * inner)) {
                for ((start, weights), to) in taps.iter().zip(to.chunks_exact_mut(inner)) {
                    for (weight, from) in weights.iter().zip(from[start * inner..].chunks_exact(inner)) {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
                    }
                }
            }
            values = next;
            outer *= taps.len();
        }
        values.into_iter().map(|v| v.max(0.0)).collect()
    }

    /// The mean of the output channel within the inscribed disc (ball): an invariant.
    pub(crate) fn pooled(&self, channel: &[f64]) -> f64 {
        let sizes: Vec<usize> = self.lines.iter().map(|(_, taps)| taps.len()).collect();
        let values = self.dense(channel);
        let radius = inscribed(&sizes);
        let inside: Vec<f64> = values
            .iter()
            .enumerate()
            .filter(|(pixel, _)| {
                let index = index_of(*pixel, &sizes);
                let square: f64 = index
                    .iter()
                    .zip(&sizes)
                    .map(|(i, n)| (*i as f64 - (*n as f64 - 1.0) / 2.0).powi(2))
                    .sum();
                square <= radius * radius
            })
            .map(|(_, v)| *v)
            .collect();
        inside.iter().sum::<f64>() / inside.len().max(1) as f64
    }
}

/// How far the influence of one input pixel reaches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReceptiveField {
    /// Along each axis, in output pixels.
    pub(crate) radius: Vec<f64>,
    /// Root mean square distance along one axis, weighted by the size of the change: the standard deviation of a
    /// Gaussian blur. In output pixels.
    pub(crate) deviation: f64,
}

impl ReceptiveField {
    /// From the sizes of the changes at the pixels of the output, after a change at `centre` (output coordinates,
    /// pixels from the first one) that extends `half` pixels to each side; changes up to `rounding` are none.
    pub(crate) fn new(changes: &[f64], sizes: &[usize], centre: &[f64], half: &[f64], rounding: f64) -> Self {
        let mut radius = vec![0.0_f64; sizes.len()];
        let (mut sum, mut moment) = (0.0, 0.0);
        for (pixel, change) in changes.iter().enumerate().filter(|(_, change)| **change > rounding) {
            let index = index_of(pixel, sizes);
            sum += change;
            for (a, radius) in radius.iter_mut().enumerate() {
                let distance = (index[a] as f64 - centre[a]).abs();
                *radius = radius.max(distance - half[a]);
                moment += change * distance * distance;
            }
        }
        let deviation = if sum > 0.0 { (moment / sum / sizes.len() as f64).sqrt() } else { 0.0 };
        Self { radius, deviation }
    }

    /// The larger of both.
    pub(crate) fn join(&mut self, other: &Self) {
        for (own, other) in self.radius.iter_mut().zip(&other.radius) {
            *own = own.max(*other);
        }
        self.deviation = self.deviation.max(other.deviation);
    }

    /// Whether everything that the output pixel at this position depends on lies on the grid.
    pub(crate) fn is_inside(&self, position: &[f64], sizes: &[usize]) -> bool {
        position
            .iter()
            .zip(sizes)
            .zip(&self.radius)
            .all(|((at, n), radius)| *radius <= *at && *at <= (*n as f64 - 1.0) - radius)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ArrayD, IxDyn, array};

    use super::*;
    use crate::audit::sampling::Purpose;
    use crate::symmetry::grid::{Domain, GridWarp, Interpolation};

    fn field(sizes: &[usize], seed: u64) -> SmoothField {
        SmoothField::draw(sizes, &mut Draws::new(seed, 0, 0, Purpose::Analytic))
    }

    fn grid(sizes: &[usize], values: Vec<f64>) -> ArrayD<f64> {
        ArrayD::from_shape_vec(IxDyn(sizes), values).unwrap()
    }

    /// The field at the pixels of a grid, as it is.
    fn plain(field: &SmoothField, sizes: &[usize]) -> ArrayD<f64> {
        let step: Vec<Vec<f64>> = (0..sizes.len())
            .map(|a| (0..sizes.len()).map(|b| f64::from(u8::from(a == b))).collect())
            .collect();
        grid(sizes, field.at(sizes, &vec![0.0; sizes.len()], &step))
    }

    fn moved(field: &SmoothField, warp: &GridWarp) -> ArrayD<f64> {
        let (base, step) = warp.sources();
        grid(warp.sizes(), field.at(warp.sizes(), base, step))
    }

    fn turn(angle: f64) -> Array2<f64> {
        let (s, c) = angle.to_radians().sin_cos();
        array![[c, -s], [s, c]]
    }

    fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
        values.into_iter().fold(0.0, |m, v| m.max(v.abs()))
    }

    #[test]
    fn a_field_moved_by_a_lattice_symmetry_is_the_array_moved() {
        let sizes = [24, 24];
        let field = field(&sizes, 1);
        let cases = [
            (turn(90.0), [0.0, 0.0]),
            (turn(270.0), [0.0, 0.0]),
            (array![[-1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
            (turn(0.0), [3.0, -2.0]),
            (turn(90.0), [1.0, 2.0]),
        ];
        for (linear, shift) in cases {
            let warp = GridWarp::new(&sizes, Domain::Open, Interpolation::Linear, &linear, &shift).unwrap();
            assert!(warp.is_exact());
            let exact = warp.apply(&plain(&field, &sizes), &[0, 1]);
            let sampled = moved(&field, &warp);
            let difference = exact.iter().zip(&sampled).zip(warp.mask()).filter(|(_, ok)| **ok);
            assert!(largest(difference.map(|((a, b), _)| a - b)) < 1e-12, "{linear} {shift:?}");
        }
    }

    #[test]
    fn a_volume_turned_about_each_axis_is_the_array_turned() {
        let sizes = [12, 12, 12];
        let field = field(&sizes, 2);
        for (i, j) in [(0, 1), (1, 2), (2, 0)] {
            let mut linear = Array2::eye(3);
            (linear[[i, i]], linear[[j, j]], linear[[i, j]], linear[[j, i]]) = (0.0, 0.0, -1.0, 1.0);
            let warp =
                GridWarp::new(&sizes, Domain::Open, Interpolation::Linear, &linear, &[0.0; 3]).unwrap();
            let difference = warp.apply(&plain(&field, &sizes), &[0, 1, 2]) - moved(&field, &warp);
            assert!(largest(difference) < 1e-12, "axis from {i} to {j}");
        }
    }

    /// A field that is twice as smooth per pixel is interpolated 2^order times as well; Fourier interpolation has no
    /// order but is exact where the field vanishes at the border.
    #[test]
    fn interpolants_approach_the_moved_field_at_their_order() {
        let error = |size: usize, interpolation| {
            let sizes = [size, size];
            let coarse = field(&[33, 33], 3);
            let ratio = (size - 1) as f64 / 32.0;
            let finer = SmoothField {
                waves: coarse
                    .waves
                    .iter()
                    .map(|w| Wave { vector: w.vector.iter().map(|k| k / ratio).collect(), phase: w.phase })
                    .collect(),
                width: coarse.width * ratio,
            };
            let warp = GridWarp::new(&sizes, Domain::Open, interpolation, &turn(31.0), &[0.0; 2]).unwrap();
            let interpolated = warp.apply(&plain(&finer, &sizes), &[0, 1]);
            let sampled = moved(&finer, &warp);
            let pairs = interpolated.iter().zip(&sampled).zip(warp.mask()).filter(|(_, ok)| **ok);
            largest(pairs.map(|((a, b), _)| a - b))
        };
        let order = |interpolation| (error(129, interpolation) / error(257, interpolation)).log2();
        assert!((1.8..2.2).contains(&order(Interpolation::Linear)), "{}", order(Interpolation::Linear));
        assert!((2.7..3.3).contains(&order(Interpolation::Cubic)), "{}", order(Interpolation::Cubic));
        // What is left is the window's 3e-4 at the rim.
        assert!(error(33, Interpolation::Fourier) < 2e-3, "{}", error(33, Interpolation::Fourier));
        assert!(error(33, Interpolation::Linear) > 0.1);
    }

    #[test]
    fn fields_are_smooth_of_unit_size_in_the_middle_and_vanish_at_the_border() {
        let sizes = [32, 32];
        let mut middle = 0.0;
        for seed in 0..64 {
            let values = plain(&field(&sizes, seed), &sizes);
            middle += values[[15, 16]].powi(2) / 64.0;
            let rim = values.indexed_iter().filter(|(i, _)| i[0] == 0 || i[1] == 31);
            assert!(largest(rim.map(|(_, v)| *v)) < 2e-3);
        }
        assert!((0.6..1.5).contains(&middle), "{middle}");
    }

    #[test]
    fn the_reference_blurs_as_told() {
        let sizes = [41, 33];
        let mut impulse = vec![0.0; 41 * 33];
        impulse[20 * 33 + 16] = 1.0;
        let response = Reference::new(&sizes, &sizes, &[1.0, 1.0], 2.5).dense(&impulse);
        let found = ReceptiveField::new(&response, &sizes, &[20.0, 16.0], &[0.0, 0.0], 1e-13);
        assert!((found.deviation - 2.5).abs() < 1e-4, "{found:?}");
        // A stride of 2: the same blur read off between pixels.
        let coarse = Reference::new(&[40, 40], &[20, 20], &[2.0, 2.0], 1.5);
        let linear: Vec<f64> = (0..1600).map(|p| f64::from(p % 40)).collect();
        let at = coarse.dense(&linear)[10 * 20 + 7];
        assert!((at - 14.5).abs() < 1e-6, "the middle of pixels 14 and 15: {at}");
        // A constant stays one, up to the border.
        assert!(largest(coarse.dense(&vec![3.0; 1600]).iter().map(|v| v - 3.0)) < 1e-12);
        assert!((coarse.pooled(&vec![3.0; 1600]) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn receptive_fields_of_known_kernels() {
        let sizes = [15, 17];
        // A box of 5 x 3 about (7, 8), with a gap in the middle.
        let mut changes = vec![1e-15; 15 * 17];
        for i in 5..=9 {
            for j in 7..=9 {
                changes[i * 17 + j] = if (i, j) == (7, 8) { 0.0 } else { 1.0 };
            }
        }
        let found = ReceptiveField::new(&changes, &sizes, &[7.0, 8.0], &[0.0, 0.0], 1e-13);
        assert_eq!(found.radius, [2.0, 1.0]);
        // The same box as the image of a change of 3 x 3 pixels.
        let region = ReceptiveField::new(&changes, &sizes, &[7.0, 8.0], &[1.0, 1.0], 1e-13);
        assert_eq!(region.radius, [1.0, 0.0]);
        assert!(found.is_inside(&[2.0, 1.0], &sizes) && found.is_inside(&[12.0, 15.0], &sizes));
        assert!(!found.is_inside(&[1.9, 8.0], &sizes) && !found.is_inside(&[7.0, 15.1], &sizes));
        // Everything changes: no pixel is inside.
        let whole = ReceptiveField::new(&vec![1.0; 15 * 17], &sizes, &[7.0, 8.0], &[0.0, 0.0], 1e-13);
        assert_eq!(whole.radius, [7.0, 8.0]);
        let nothing = ReceptiveField::new(&vec![0.0; 15 * 17], &sizes, &[7.0, 8.0], &[0.0, 0.0], 1e-13);
        assert_eq!((nothing.radius, nothing.deviation), (vec![0.0, 0.0], 0.0));
    }
}
