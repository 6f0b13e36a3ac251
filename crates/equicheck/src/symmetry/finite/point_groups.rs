//! Point groups in space, by Schoenflies and Hermann-Mauguin names.

use std::fmt;

use ndarray::{Array2, array};

use super::{FiniteError, FiniteGroup, determinant, norm, turn};
use crate::error::nearest;

/// Largest `n` of `Cn`, `Cnv`, `Cnh`, `Dn`, `Dnh`, `Dnd` and `S2n`.
const TURNS_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    /// `Cn`.
    C(usize),
    Cv(usize),
    Ch(usize),
    /// `S2n`, with `n`.
    S(usize),
    D(usize),
    Dh(usize),
    Dd(usize),
    Cs,
    Ci,
    T,
    Td,
    Th,
    O,
    Oh,
    I,
    Ih,
}

use Family::{C, Ch, Ci, Cs, Cv, D, Dd, Dh, I, Ih, O, Oh, S, T, Td, Th};

/// The name of a point group in space: `C4v`, `4mm`, `Oh`, `m-3m`, .. Prints in Schoenflies notation.
///
/// # Orientation
/// The main axis of rotation (the normal of the mirror, for `Cs`) lies along `axis`. What else the group has is
/// fixed by `secondary`, projected to the plane perpendicular to the axis:
///
/// - Schoenflies `Dn`, `Dnh`, `Dnd`: one of the 2-fold axes lies along `secondary`. `Cnv`: one of the mirror planes
///   contains it.
/// - Hermann-Mauguin symbols follow the International Tables, with the lattice vector a along `secondary`: the
///   second position of the symbol is about the direction a (axis along it, or mirror normal to it), the third
///   about the bisector between two equivalents of a. So `321` is `D3` and `312` is `D3` turned by 90 degrees about
///   the axis; `-42m` is `D2d` and `-4m2` is turned by 45 degrees; `-62m` is `D3h` and `-6m2` is turned. `3m` means
///   `3m1`, whose mirrors are normal to a: it is `C3v` turned by 90 degrees, and `31m` is `C3v`. The turned ones
///   (`312`, `3m1`, `-31m`, `-4m2`, `-6m2`) print as these symbols.
/// - `T`, `Td`, `Th`: 2-fold axes (4-fold improper ones in `Td`), `O`, `Oh`: 4-fold axes lie along `axis` and
///   `secondary`.
/// - `I`, `Ih`: 2-fold axes lie along `axis` (z'), `secondary` (x'), and perpendicular to both (y'); the vertices of the
///   icosahedron are the cyclic permutations of `(0, ±1, ±(1 + sqrt 5)/2)` in (x', y', z'). The 5-fold axis nearest to z'
///   is thus in the plane of y' and z', 31.7 degrees away.
/// - `Cn`, `Cnh`, `S2n`, `Cs`, `Ci` do not use `secondary`.
///
/// Without `secondary`, it is the Cartesian axis that follows cyclically (z, x, y) the one with the largest component
/// of `axis`, of equal ones the last: x for an axis along z, y for x, z for y, x for (1,1,1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PointGroupName {
    family: Family,
    /// Turned about the axis, so that the second and third position of the Hermann-Mauguin symbol change places.
    turned: bool,
}

/// Hermann-Mauguin symbols with their Schoenflies equivalents and whether they are turned.
const HERMANN_MAUGUIN: [(&str, Family, bool); 47] = [
    ("1", C(1), false),
    ("-1", Ci, false),
    ("2", C(2), false),
    ("m", Cs, false),
    ("2/m", Ch(2), false),
    ("222", D(2), false),
    ("mm2", Cv(2), false),
    ("mmm", Dh(2), false),
    ("4", C(4), false),
    ("-4", S(2), false),
    ("4/m", Ch(4), false),
    ("422", D(4), false),
    ("4mm", Cv(4), false),
    ("-42m", Dd(2), false),
    ("-4m2", Dd(2), true),
    ("4/mmm", Dh(4), false),
    ("3", C(3), false),
    ("-3", S(3), false),
    ("32", D(3), false),
    ("321", D(3), false),
    ("312", D(3), true),
    ("3m1", Cv(3), true),
    ("3m", Cv(3), true),
    ("31m", Cv(3), false),
    ("-3m", Dd(3), false),
    ("-3m1", Dd(3), false),
    ("-31m", Dd(3), true),
    ("6", C(6), false),
    ("-6", Ch(3), false),
    ("6/m", Ch(6), false),
    ("622", D(6), false),
    ("6mm", Cv(6), false),
    ("-6m2", Dh(3), true),
    ("-62m", Dh(3), false),
    ("6/mmm", Dh(6), false),
    ("23", T, false),
    ("m-3", Th, false),
    ("m3", Th, false),
    ("432", O, false),
    ("-43m", Td, false),
    ("m-3m", Oh, false),
    ("m3m", Oh, false),
    ("532", I, false),
    ("235", I, false),
    ("m-3-5", Ih, false),
    ("m-5-3", Ih, false),
    ("53m", Ih, false),
];

/// For the search of the nearest name.
const SCHOENFLIES: [&str; 39] = [
    "C1", "Ci", "Cs", "C2", "C3", "C4", "C6", "C2v", "C3v", "C4v", "C6v", "C2h", "C3h", "C4h", "C6h", "D2",
    "D3", "D4", "D6", "D2h", "D3h", "D4h", "D6h", "D2d", "D3d", "D4d", "D5d", "S4", "S6", "C5", "D5", "T",
    "Td", "Th", "O", "Oh", "I", "Ih", "D5h",
];

const AVAILABLE: &str = "available: Cn, Cnv, Cnh, Dn, Dnh, Dnd, S2n, Cs, Ci, T, Td, Th, O, Oh, I, Ih, and the \
                         crystallographic groups' Hermann-Mauguin symbols such as `4mm`, `m-3m`";

impl fmt::Display for PointGroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.turned {
            let symbol = HERMANN_MAUGUIN.iter().find(|(_, family, turned)| *turned && *family == self.family);
            return f.write_str(symbol.map_or("", |(symbol, ..)| symbol));
        }
        match self.family {
            C(n) => write!(f, "C{n}"),
            Cv(n) => write!(f, "C{n}v"),
            Ch(n) => write!(f, "C{n}h"),
            S(n) => write!(f, "S{}", 2 * n),
            D(n) => write!(f, "D{n}"),
            Dh(n) => write!(f, "D{n}h"),
            Dd(n) => write!(f, "D{n}d"),
            Cs => f.write_str("Cs"),
            Ci => f.write_str("Ci"),
            T => f.write_str("T"),
            Td => f.write_str("Td"),
            Th => f.write_str("Th"),
            O => f.write_str("O"),
            Oh => f.write_str("Oh"),
            I => f.write_str("I"),
            Ih => f.write_str("Ih"),
        }
    }
}

impl PointGroupName {
    /// Parses a Schoenflies name (`C4v`, `S6`, `D5d`, `Oh`) or Hermann-Mauguin symbol (`4mm`, `-3`, `m-3m`, `m3m`).
    ///
    /// # Errors
    /// An unknown name, with the nearest one; `n` out of 1 to 64; `Sn` with odd `n`, which is `Cnh`.
    pub fn parse(text: &str) -> Result<Self, FiniteError> {
        let text = text.trim();
        if let Some((_, family, turned)) = HERMANN_MAUGUIN.iter().find(|(symbol, ..)| *symbol == text) {
            return Ok(Self { family: *family, turned: *turned });
        }
        let named = [Cs, Ci, T, Td, Th, O, Oh, I, Ih].map(|family| Self { family, turned: false });
        if let Some(name) = named.into_iter().find(|name| name.to_string() == text) {
            return Ok(name);
        }
        let unknown = || {
            let names = SCHOENFLIES.into_iter().chain(HERMANN_MAUGUIN.map(|(symbol, ..)| symbol));
            // A difference of case alone comes first: `C4V`, `oh`.
            let exact = names.clone().find(|name| name.eq_ignore_ascii_case(text));
            let help = match exact.or_else(|| nearest(text, names)) {
                Some(near) => format!("did you mean `{near}`? {AVAILABLE}"),
                None => AVAILABLE.to_owned(),
            };
            FiniteError::new(format!("`{text}` is not a point group known here"), help)
        };
        let (Some(letter), Some(rest)) = (text.get(..1), text.get(1..)) else { return Err(unknown()) };
        let suffix = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &rest[..rest.len() - suffix.len()];
        let make: fn(usize) -> Family = match (letter, suffix) {
            ("C", "") => C,
            ("C", "v") => Cv,
            ("C", "h") => |n| if n == 1 { Cs } else { Ch(n) },
            ("C", "i") => |n| if n == 1 { Ci } else { S(n) },
            ("D", "") => D,
            ("D", "h") => Dh,
            ("D", "d") => Dd,
            ("S", "") => |order| if order == 2 { Ci } else { S(order / 2) },
            _ => return Err(unknown()),
        };
        if digits.is_empty() || digits.starts_with('0') {
            return Err(unknown());
        }
        let most = if letter == "S" { 2 * TURNS_MAX } else { TURNS_MAX };
        let n = digits.parse::<usize>().ok().filter(|n| *n <= most).ok_or_else(|| {
            FiniteError::new(
                format!("`{text}` is too large: `{letter}n{suffix}` is known for n up to {most}"),
                "for larger groups give the generators' matrices",
            )
        })?;
        if suffix == "i" && n.is_multiple_of(2) {
            return Err(FiniteError::new(
                format!(
                    "`{text}` with even {n} is not written so: it holds the inversion already in `C{n}h`"
                ),
                format!("write `C{n}h`"),
            ));
        }
        if letter == "S" && !n.is_multiple_of(2) {
            let proper = Self { family: if n == 1 { Cs } else { Ch(n) }, turned: false };
            return Err(FiniteError::new(
                format!("`{text}` with odd {n} is not written so: its powers make `{proper}`"),
                format!("write `{proper}`"),
            ));
        }
        Ok(Self { family: make(n), turned: false })
    }

    /// Whether the orientation matters, so that an axis must be given; `Cs` needs the mirror's normal. The cubic and
    /// icosahedral groups have a customary orientation, axis z and secondary x.
    pub fn needs_axis(&self) -> bool {
        !matches!(self.family, C(1) | Ci | T | Td | Th | O | Oh | I | Ih)
    }

    /// Whether the direction perpendicular to the axis matters.
    pub fn uses_secondary(&self) -> bool {
        !matches!(self.family, C(_) | Ch(_) | S(_) | Cs | Ci)
    }

    /// The number of elements.
    pub fn order(&self) -> usize {
        match self.family {
            C(n) => n,
            Cs | Ci => 2,
            Cv(n) | Ch(n) | D(n) | S(n) => 2 * n,
            Dh(n) | Dd(n) => 4 * n,
            T => 12,
            Td | Th | O => 24,
            Oh => 48,
            I => 60,
            Ih => 120,
        }
    }

    /// All matrices with the axis along z and the secondary direction along x, the identity first.
    fn standard(&self) -> Vec<Array2<f64>> {
        // Turned by a right angle for n = 3, 45 degrees for n = 2; what counts is twice that, in full turns.
        let n = match self.family {
            C(n) | Cv(n) | Ch(n) | S(n) | D(n) | Dh(n) | Dd(n) => n,
            _ => 1,
        };
        let offset = if !self.turned {
            0
        } else if n == 2 {
            n
        } else {
            2 * n
        };
        // Both in quarters of 1/n turn. A rotation about z, and a reflection whose plane contains the direction at
        // half the angle; with the sign of z.
        let about = |k: usize, up: f64| rotation(turn(k, n), up);
        let flip = |k: usize, up: f64| reflection(turn(4 * k + offset, 4 * n), up);
        let rotations = || (0..n).map(|k| about(k, 1.0));
        match self.family {
            C(_) => rotations().collect(),
            Cv(_) => rotations().chain((0..n).map(|k| flip(k, 1.0))).collect(),
            Ch(_) => rotations().chain((0..n).map(|k| about(k, -1.0))).collect(),
            D(_) => rotations().chain((0..n).map(|k| flip(k, -1.0))).collect(),
            Dh(_) => rotations()
                .chain((0..n).map(|k| flip(k, -1.0)))
                .chain((0..n).map(|k| about(k, -1.0)))
                .chain((0..n).map(|k| flip(k, 1.0)))
                .collect(),
            S(_) => screw_turns(n).map(|(c, s, up)| rotation((c, s), up)).collect(),
            Dd(_) => screw_turns(n)
                .map(|(c, s, up)| rotation((c, s), up))
                .chain((0..2 * n).map(|k| {
                    let up = if k % 2 == 0 { -1.0 } else { 1.0 };
                    reflection(turn(4 * k + 2 * offset, 8 * n), up)
                }))
                .collect(),
            Cs => vec![rotation((1.0, 0.0), 1.0), rotation((1.0, 0.0), -1.0)],
            Ci => vec![Array2::eye(3), rotation((-1.0, 0.0), -1.0)],
            T => signed_permutations(|even, sign| even && sign > 0.0),
            Td => signed_permutations(|_, sign| sign > 0.0),
            Th => signed_permutations(|even, _| even),
            O => signed_permutations(|even, sign| even == (sign > 0.0)),
            Oh => signed_permutations(|_, _| true),
            I => icosahedral(),
            Ih => {
                let proper = icosahedral();
                let inverted: Vec<_> = proper.iter().map(|m| m.mapv(|v| 0.0 - v)).collect();
                proper.into_iter().chain(inverted).collect()
            }
        }
    }
}

/// Turn about z, then z times `up`.
fn rotation((c, s): (f64, f64), up: f64) -> Array2<f64> {
    array![[c, 0.0 - s, 0.0], [s, c, 0.0], [0.0, 0.0, up]]
}

/// Reflection that keeps the direction in the plane of x and y at half the angle, and z times `up`.
fn reflection((c, s): (f64, f64), up: f64) -> Array2<f64> {
    array![[c, s, 0.0], [s, 0.0 - c, 0.0], [0.0, 0.0, up]]
}

/// The powers of the rotoreflection `S2n`: cosine, sine and factor on z.
fn screw_turns(n: usize) -> impl Iterator<Item = (f64, f64, f64)> {
    (0..2 * n).map(move |k| {
        let (c, s) = turn(k, 2 * n);
        (c, s, if k % 2 == 0 { 1.0 } else { -1.0 })
    })
}

/// Those signed permutations of the coordinates that `keep` takes, given whether the permutation is even and the
/// product of the signs.
fn signed_permutations(keep: fn(bool, f64) -> bool) -> Vec<Array2<f64>> {
    let permutations = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]];
    let mut matrices = Vec::new();
    for (k, permutation) in permutations.iter().enumerate() {
        for bits in 0..8_u8 {
            let signs = [4, 2, 1].map(|bit| if bits & bit == 0 { 1.0 } else { -1.0 });
            if keep(k < 3, signs.iter().product()) {
                let mut matrix = Array2::zeros((3, 3));
                for i in 0..3 {
                    matrix[[i, permutation[i]]] = signs[i];
                }
                matrices.push(matrix);
            }
        }
    }
    matrices
}

/// The rotations of the icosahedron: those of a tetrahedron times the powers of a 5-fold turn.
fn icosahedral() -> Vec<Array2<f64>> {
    let golden = f64::midpoint(1.0, 5.0_f64.sqrt());
    let (a, b) = (golden / 2.0, (golden - 1.0) / 2.0);
    // The turn by 72 degrees about (0, 1, golden), a vertex: its cosine is b, and the entries are exact in these.
    let fifth = array![[b, -a, 0.5], [a, 0.5, b], [-0.5, b, a]];
    let mut power = Array2::eye(3);
    let mut matrices = Vec::new();
    for _ in 0..5 {
        for rotation in signed_permutations(|even, sign| even && sign > 0.0) {
            matrices.push(rotation.dot(&power).mapv(|v| v + 0.0));
        }
        power = fifth.dot(&power).mapv(|v| snap(v, &[0.0, 0.5, 1.0, a, b]));
    }
    matrices
}

/// `value`, or the number among plus and minus `exact` that it misses by rounding alone.
fn snap(value: f64, exact: &[f64]) -> f64 {
    let near = exact.iter().find(|e| (value.abs() - **e).abs() <= 4e-15);
    // Adding 0 turns -0 into 0.
    near.map_or(value, |e| e.copysign(value)) + 0.0
}

impl FiniteGroup {
    /// A point group in space, by any name that [`PointGroupName::parse`] takes; see there for the orientation. `axis` and
    /// `secondary` need not be normalised.
    ///
    /// The matrices are orthogonal to a few units of roundoff, and entries 0, ±1/2 and ±1 are exact: with `axis` and
    /// `secondary` along Cartesian axes, the cubic, tetragonal and orthorhombic groups are signed permutations.
    ///
    /// # Errors
    /// As `parse`; a direction that is zero or not finite, or a `secondary` parallel to the axis.
    pub fn point_group(name: &str, axis: [f64; 3], secondary: Option<[f64; 3]>) -> Result<Self, FiniteError> {
        Self::from_point_group(&PointGroupName::parse(name)?, axis, secondary)
    }

    /// As [`point_group`](Self::point_group), for a name that has been parsed.
    ///
    /// # Errors
    /// A direction that is zero or not finite, or a `secondary` parallel to the axis.
    pub fn from_point_group(
        name: &PointGroupName,
        axis: [f64; 3],
        secondary: Option<[f64; 3]>,
    ) -> Result<Self, FiniteError> {
        let frame = frame(axis, secondary)?;
        let place = |m: &Array2<f64>| frame.dot(m).dot(&frame.t()).mapv(|v| snap(v, &[0.0, 0.5, 1.0]));
        let matrices: Vec<_> = name.standard().iter().map(place).collect();
        let labels = matrices.iter().map(label).collect();
        Ok(Self::from_matrices(name.to_string(), matrices, labels).expect("a point group is closed"))
    }
}

/// The directions x', y', z' as columns: z' along `axis`, x' along `secondary` as far as it is perpendicular to it.
fn frame(axis: [f64; 3], secondary: Option<[f64; 3]>) -> Result<Array2<f64>, FiniteError> {
    let unit = |v: [f64; 3], what: &str| {
        let largest = v.iter().fold(0.0_f64, |m, c| m.max(c.abs()));
        if v.iter().any(|c| !c.is_finite()) || largest == 0.0 {
            return Err(FiniteError::new(
                format!("the {what} ({}) is no direction", v.map(|c| c.to_string()).join(",")),
                "give three finite numbers, not all 0; example: (0,0,1)",
            ));
        }
        // First by the largest component, so that the squares neither overflow nor vanish.
        let v = v.map(|c| c / largest);
        let length = dot(v, v).sqrt();
        Ok(v.map(|c| c / length))
    };
    let z = unit(axis, "axis")?;
    let sideways = secondary.map_or_else(
        || {
            let largest = (0..3).max_by(|&i, &j| axis[i].abs().total_cmp(&axis[j].abs())).unwrap_or(2);
            let mut next = [0.0; 3];
            next[(largest + 1) % 3] = 1.0;
            Ok(next)
        },
        |direction| unit(direction, "secondary direction"),
    )?;
    let along = dot(sideways, z);
    let across = [0, 1, 2].map(|i| sideways[i] - along * z[i]);
    if dot(across, across).sqrt() < 1e-6 {
        return Err(FiniteError::new(
            "the secondary direction is parallel to the axis",
            "give one that is perpendicular to the axis, or at least not parallel",
        ));
    }
    let x = unit(across, "secondary direction")?;
    // Once more, for what rounding left when the two directions are close.
    let along = dot(x, z);
    let x = unit([0, 1, 2].map(|i| x[i] - along * z[i]), "secondary direction")?;
    let y = cross(z, x);
    Ok(Array2::from_shape_fn((3, 3), |(i, j)| [x, y, z][j][i] + 0.0))
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// An orthogonal matrix in Schoenflies notation with its axis, `C4^3 [0,0,1]`.
fn label(matrix: &Array2<f64>) -> String {
    let improper = determinant(matrix) < 0.0;
    // An improper element is a turn about u with a reflection normal to u; minus that is the turn by half a turn more.
    let turn = if improper { -matrix } else { matrix.clone() };
    let cos = (turn.diag().sum() - 1.0) / 2.0;
    let twisted = [(2, 1), (0, 2), (1, 0)].map(|(i, j)| (turn[[i, j]] - turn[[j, i]]) / 2.0);
    let sin = dot(twisted, twisted).sqrt();
    let mut axis = twisted;
    if sin < 1e-6 {
        // u u^T is what a turn by 0 or half a turn leaves of (turn + 1) / 2.
        let projector = (&turn + &Array2::<f64>::eye(3)) / 2.0;
        let column = (0..3).max_by(|i, j| projector[[*i, *i]].total_cmp(&projector[[*j, *j]])).unwrap_or(0);
        axis = [0, 1, 2].map(|i| projector[[i, column]]);
    }
    let mut share = sin.atan2(cos) / std::f64::consts::TAU;
    let largest = axis.iter().fold(0.0_f64, |m, c| m.max(c.abs()));
    if axis.iter().rev().find(|c| c.abs() > 1e-6 * largest).is_some_and(|c| *c < 0.0) {
        axis = axis.map(|c| -c);
        share = 1.0 - share;
    }
    if improper {
        share += 0.5;
    }
    let (p, q) = fraction(share);
    match (improper, q) {
        (false, 1) => "E".to_owned(),
        (true, 2) => "i".to_owned(),
        (true, 1) => format!("σ {}", direction(axis)),
        (false, _) => format!("{} {}", super::power(&format!("C{q}"), p), direction(axis)),
        // Odd powers alone have the reflection.
        (true, _) => {
            let p = if p % 2 == 0 { p + q } else { p };
            format!("{} {}", super::power(&format!("S{q}"), p), direction(axis))
        }
    }
}

/// `share` modulo 1 as the fraction with the least denominator.
fn fraction(share: f64) -> (usize, usize) {
    for q in 1..=2 * TURNS_MAX {
        let p = (share * q as f64).round();
        if (share * q as f64 - p).abs() < 1e-9 * q as f64 {
            return (p as usize % q, q);
        }
    }
    (0, 1)
}

/// A direction in the least integers, `[1,1,0]`, or as a unit vector with three decimals.
fn direction(axis: [f64; 3]) -> String {
    let largest = axis.iter().fold(0.0_f64, |m, c| m.max(c.abs()));
    for factor in 1..=6 {
        let scaled = axis.map(|c| c / largest * f64::from(factor));
        if scaled.iter().all(|c| (c - c.round()).abs() < 1e-9) {
            let [x, y, z] = scaled.map(|c| c.round() as i64);
            return format!("[{x},{y},{z}]");
        }
    }
    let length = norm(&Array2::from_shape_fn((1, 3), |(_, i)| axis[i]));
    let [x, y, z] = axis.map(|c| format!("{:.3}", (c / length * 1e3).round() / 1e3 + 0.0));
    format!("[{x},{y},{z}]")
}
