//! Finite groups against escnn, spglib and scipy (`data/make_escnn.py`) and against their definition.

use std::collections::HashSet;

use equicheck::symmetry::finite::{FiniteGroup, FiniteRepresentation, PointGroupName, Subgroup};
use ndarray::{Array2, array};
use proptest::prelude::*;
use serde_json::Value;

const X: [f64; 3] = [1.0, 0.0, 0.0];
const Y: [f64; 3] = [0.0, 1.0, 0.0];
const Z: [f64; 3] = [0.0, 0.0, 1.0];

/// The crystallographic point groups by both names.
const CRYSTALLOGRAPHIC: [(&str, &str, usize); 32] = [
    ("1", "C1", 1),
    ("-1", "Ci", 2),
    ("2", "C2", 2),
    ("m", "Cs", 2),
    ("2/m", "C2h", 4),
    ("222", "D2", 4),
    ("mm2", "C2v", 4),
    ("mmm", "D2h", 8),
    ("4", "C4", 4),
    ("-4", "S4", 4),
    ("4/m", "C4h", 8),
    ("422", "D4", 8),
    ("4mm", "C4v", 8),
    ("-42m", "D2d", 8),
    ("4/mmm", "D4h", 16),
    ("3", "C3", 3),
    ("-3", "S6", 6),
    ("32", "D3", 6),
    ("31m", "C3v", 6),
    ("-3m", "D3d", 12),
    ("6", "C6", 6),
    ("-6", "C3h", 6),
    ("6/m", "C6h", 12),
    ("622", "D6", 12),
    ("6mm", "C6v", 12),
    ("-62m", "D3h", 12),
    ("6/mmm", "D6h", 24),
    ("23", "T", 12),
    ("m-3", "Th", 24),
    ("432", "O", 24),
    ("-43m", "Td", 24),
    ("m-3m", "Oh", 48),
];

fn reference() -> Value {
    serde_json::from_str(include_str!("data/finite.json")).expect("the reference data are JSON")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn matrix(value: &Value) -> Array2<f64> {
    let rows = list(value);
    Array2::from_shape_fn((rows.len(), rows.len()), |(i, j)| rows[i][j].as_f64().unwrap())
}

fn distance(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn planar(name: &str) -> FiniteGroup {
    let n = name[1..].parse().unwrap();
    if name.starts_with('C') { FiniteGroup::cyclic(n).unwrap() } else { FiniteGroup::dihedral(n).unwrap() }
}

fn parse(text: &str) -> FiniteRepresentation {
    FiniteRepresentation::parse(text).unwrap()
}

/// Everything that makes the numbered elements, their products and their matrices a group.
fn check_group(group: &FiniteGroup) {
    let n = group.order();
    let elements = 0..n;
    let labels: HashSet<_> = elements.clone().map(|a| group.label(a)).collect();
    assert_eq!(labels.len(), n, "{}: labels repeat", group.name());
    for a in elements.clone() {
        assert_eq!(group.multiply(group.identity(), a), a);
        assert_eq!(group.multiply(a, group.identity()), a);
        assert_eq!(group.multiply(a, group.inverse(a)), 0);
        assert_eq!(group.multiply(group.inverse(a), a), 0);
        let row: HashSet<_> = elements.clone().map(|b| group.multiply(a, b)).collect();
        assert_eq!(row.len(), n, "{}: left multiplication by {a} is no bijection", group.name());
        if let Some(m) = group.matrix(a) {
            assert_eq!(group.find(m), Some(a));
            for b in elements.clone() {
                let product = m.dot(group.matrix(b).unwrap());
                assert!(distance(&product, group.matrix(group.multiply(a, b)).unwrap()) < 4e-15);
            }
        }
    }
    let mut reached = HashSet::from([0]);
    let mut fresh = vec![0];
    while let Some(a) = fresh.pop() {
        fresh.extend(group.generators().iter().map(|&s| group.multiply(s, a)).filter(|b| reached.insert(*b)));
    }
    assert_eq!(reached.len(), n, "{}: the generators do not generate", group.name());
}

/// A homomorphism into orthogonal matrices, with the mean of |character|^2, the number of irreps with multiplicity
/// squared (over the complex numbers).
fn check_representation(group: &FiniteGroup, representation: FiniteRepresentation) -> f64 {
    let matrices = group.representation(&representation).unwrap();
    let d = group.dimension_of(&representation).unwrap();
    assert_eq!(matrices.len(), group.order());
    assert_eq!(matrices[0], Array2::<f64>::eye(d), "{} {representation}", group.name());
    let mut squares = 0.0;
    for (a, m) in matrices.iter().enumerate() {
        assert_eq!(m.dim(), (d, d));
        assert!(distance(&m.dot(&m.t()), &Array2::eye(d)) < 4e-15);
        squares += m.diag().sum().powi(2);
        for (b, k) in matrices.iter().enumerate() {
            assert!(
                distance(&m.dot(k), &matrices[group.multiply(a, b)]) < 4e-15,
                "{} {representation}",
                group.name()
            );
        }
    }
    squares / group.order() as f64
}

fn irreps(group: &FiniteGroup) -> Vec<FiniteRepresentation> {
    let candidates = (0..=12).flat_map(|k| {
        [
            FiniteRepresentation::CyclicIrrep(k),
            FiniteRepresentation::DihedralIrrep(0, k),
            FiniteRepresentation::DihedralIrrep(1, k),
        ]
    });
    candidates.filter(|r| group.dimension_of(r).is_ok()).collect()
}

#[test]
fn planar_groups_and_representations_agree_with_escnn() {
    let reference = reference();
    let groups = list(&reference["planar"]);
    assert_eq!(groups.len(), 24);
    for expected in groups {
        let group = planar(expected["group"].as_str().unwrap());
        assert_eq!(group.name(), expected["group"].as_str().unwrap());
        let n = list(&expected["elements"]).len();
        assert_eq!(group.order(), n);
        for (a, element) in list(&expected["elements"]).iter().enumerate() {
            let flip_and_turns = element.as_u64().map_or_else(
                || (element[0].as_u64().unwrap(), element[1].as_u64().unwrap()),
                |turns| (0, turns),
            );
            let label = match flip_and_turns {
                (0, 0) => "e".to_owned(),
                (0, 1) => "r".to_owned(),
                (0, k) => format!("r^{k}"),
                (_, 0) => "f".to_owned(),
                (_, 1) => "r·f".to_owned(),
                (_, k) => format!("r^{k}·f"),
            };
            assert_eq!(group.label(a), label);
            assert!(distance(group.matrix(a).unwrap(), &matrix(&expected["base"][a])) < 1e-14);
            for b in 0..n {
                assert_eq!(group.multiply(a, b) as u64, expected["table"][a][b].as_u64().unwrap());
            }
        }
        for (text, matrices) in expected["representations"].as_object().unwrap() {
            let representation = parse(text);
            assert_eq!(&representation.to_string(), text);
            let ours = group.representation(&representation).unwrap();
            for (a, theirs) in list(matrices).iter().enumerate() {
                let theirs = if text.starts_with("irrep") {
                    matrix(theirs)
                } else {
                    let rows: Vec<_> = list(theirs).iter().map(|r| r.as_u64().unwrap() as usize).collect();
                    Array2::from_shape_fn(
                        (rows.len(), rows.len()),
                        |(i, j)| if rows[j] == i { 1.0 } else { 0.0 },
                    )
                };
                assert!(distance(&ours[a], &theirs) < 1e-14, "{} {text} {}", group.name(), group.label(a));
            }
        }
        let named = expected["representations"].as_object().unwrap();
        for irrep in irreps(&group) {
            assert!(named.contains_key(&irrep.to_string()), "{} has no {irrep} in escnn", group.name());
        }
    }
}

#[test]
fn defining_matrices_are_the_first_irrep_turned() {
    let quarter = array![[0.0, -1.0], [1.0, 0.0]];
    for n in 3..=12 {
        let group = FiniteGroup::dihedral(n).unwrap();
        let irrep = group.representation(&parse("irrep(1,1)")).unwrap();
        for (a, irrep) in irrep.iter().enumerate() {
            assert!(distance(group.matrix(a).unwrap(), &quarter.dot(irrep).dot(&quarter.t())) < 1e-15);
        }
        let group = FiniteGroup::cyclic(n).unwrap();
        let irrep = group.representation(&parse("irrep(1)")).unwrap();
        assert!((0..n).all(|a| group.matrix(a) == Some(&irrep[a])));
    }
}

#[test]
fn characters_of_irreps_are_orthogonal_and_complete() {
    for n in 1..=12 {
        for group in [FiniteGroup::cyclic(n).unwrap(), FiniteGroup::dihedral(n).unwrap()] {
            check_group(&group);
            assert_eq!(group.has_improper(), group.name().starts_with('D'));
            let irreps = irreps(&group);
            let characters: Vec<Vec<f64>> = irreps
                .iter()
                .map(|r| group.representation(r).unwrap().iter().map(|m| m.diag().sum()).collect())
                .collect();
            let mut total = 0.0;
            for (i, first) in irreps.iter().enumerate() {
                // A real irrep of the plane's turns is two complex ones, conjugate to each other.
                let d = group.dimension_of(first).unwrap() as f64;
                let parts = if group.has_improper() { 1.0 } else { d };
                let own = check_representation(&group, *first);
                assert!((own - parts).abs() < 1e-12, "{} {first}: {own}", group.name());
                total += d * d / parts;
                for other in &characters[i + 1..] {
                    let product: f64 = characters[i].iter().zip(other).map(|(a, b)| a * b).sum();
                    assert!(product.abs() < 1e-12 * group.order() as f64);
                }
            }
            assert_eq!(total, group.order() as f64, "{}: irreps are missing", group.name());
            // Moments over the group: the regular representation has no fixed vector but the constant.
            let regular = check_representation(&group, FiniteRepresentation::Regular);
            assert_eq!(regular, group.order() as f64);
            let sum = group
                .representation(&FiniteRepresentation::Regular)
                .unwrap()
                .iter()
                .fold(Array2::<f64>::zeros((group.order(), group.order())), |sum, m| sum + m);
            assert_eq!(sum, Array2::<f64>::ones(sum.dim()));
        }
    }
}

#[test]
fn quotients_are_permutations_that_the_subgroup_fixes() {
    for n in 1..=12_usize {
        for group in [FiniteGroup::cyclic(n).unwrap(), FiniteGroup::dihedral(n).unwrap()] {
            for m in (1..=n).filter(|m| n.is_multiple_of(*m)) {
                let mut subgroups = vec![Subgroup::Cyclic(m)];
                if group.has_improper() {
                    subgroups.extend((0..n / m).map(|axis| Subgroup::Dihedral { turns: m, axis }));
                }
                for subgroup in subgroups {
                    let quotient = FiniteRepresentation::Quotient(subgroup);
                    check_representation(&group, quotient);
                    let matrices = group.representation(&quotient).unwrap();
                    // What keeps the first coset is the subgroup.
                    let fixing: HashSet<usize> =
                        (0..group.order()).filter(|&a| matrices[a][[0, 0]] == 1.0).collect();
                    let members: HashSet<usize> = (0..group.order())
                        .filter(|&a| match subgroup {
                            Subgroup::Cyclic(_) => a < n && a.is_multiple_of(n / m),
                            Subgroup::Dihedral { axis, .. } => {
                                let shift = if a < n { 0 } else { axis };
                                (a % n + n - shift).is_multiple_of(n / m)
                            }
                        })
                        .collect();
                    assert_eq!(fixing, members, "{} {quotient}", group.name());
                }
            }
        }
    }
}

#[test]
fn large_planar_groups_multiply_without_a_table() {
    let group = FiniteGroup::dihedral(1024).unwrap();
    let small = FiniteGroup::dihedral(1023).unwrap();
    for (group, n) in [(group, 1024), (small, 1023)] {
        for (a, b) in [(1, 1), (5, n + 3), (n + 3, 5), (n + 7, n + 9), (n - 1, n + 1), (2 * n - 1, 2 * n - 1)]
        {
            let product = group.matrix(a).unwrap().dot(group.matrix(b).unwrap());
            assert!(distance(&product, group.matrix(group.multiply(a, b)).unwrap()) < 1e-14);
            assert_eq!(group.multiply(a, group.inverse(a)), 0);
        }
    }
}

#[test]
fn point_groups_agree_with_the_space_group_tables() {
    let reference = reference();
    let rows = list(&reference["crystal"]);
    assert_eq!(rows.len(), 37);
    let mut covered = HashSet::new();
    for row in rows {
        let symbol = row["name"].as_str().unwrap();
        let axis = [0, 1, 2].map(|i| row["axis"][i].as_f64().unwrap());
        let group = FiniteGroup::point_group(symbol, axis, None).unwrap();
        let matrices = list(&row["matrices"]);
        assert_eq!(group.order(), matrices.len(), "{symbol}");
        let found: HashSet<usize> = matrices
            .iter()
            .map(|m| group.find(&matrix(m)).unwrap_or_else(|| panic!("{symbol} lacks {m}")))
            .collect();
        assert_eq!(found.len(), group.order(), "{symbol}");
        // The Schoenflies name is the same group up to a turn about the axis.
        let schoenflies = row["schoenflies"].as_str().unwrap();
        let named = PointGroupName::parse(schoenflies).unwrap();
        let ours = PointGroupName::parse(symbol).unwrap();
        assert_eq!(ours.order(), group.order());
        let turned = ["312", "3m1", "-31m", "-4m2", "-6m2"].contains(&symbol);
        assert_eq!(named == ours, !turned, "{symbol} {schoenflies}");
        assert_eq!(ours.to_string() == symbol, turned || symbol == schoenflies);
        covered.insert(named.to_string());
    }
    assert_eq!(covered, CRYSTALLOGRAPHIC.map(|(_, s, _)| s.to_owned()).into_iter().collect());
}

#[test]
fn rotation_groups_agree_with_scipy() {
    let reference = reference();
    for row in list(&reference["scipy"]) {
        let name = row["name"].as_str().unwrap();
        let matrices = list(&row["matrices"]);
        let group = FiniteGroup::point_group(name, Z, None).unwrap();
        let found: HashSet<usize> = matrices
            .iter()
            .map(|m| group.find(&matrix(m)).unwrap_or_else(|| panic!("{name} lacks {m}")))
            .collect();
        assert_eq!(found.len(), group.order(), "{name}");
        assert_eq!(matrices.len(), group.order(), "{name}");
    }
}

#[test]
fn names_round_trip_and_orders_are_known() {
    for (hermann_mauguin, schoenflies, order) in CRYSTALLOGRAPHIC {
        let name = PointGroupName::parse(schoenflies).unwrap();
        assert_eq!(PointGroupName::parse(hermann_mauguin).unwrap(), name);
        assert_eq!(name.to_string(), schoenflies);
        assert_eq!(name.order(), order);
        let group = FiniteGroup::point_group(schoenflies, Z, None).unwrap();
        assert_eq!((group.order(), group.name()), (order, schoenflies));
        check_group(&group);
    }
    for (variant, same) in [
        ("m3", "Th"),
        ("m3m", "Oh"),
        ("321", "32"),
        ("3m1", "3m"),
        ("-3m1", "-3m"),
        ("S2", "Ci"),
        ("C1h", "Cs"),
        ("C3i", "S6"),
        ("532", "I"),
        ("m-3-5", "Ih"),
    ] {
        assert_eq!(
            PointGroupName::parse(variant).unwrap(),
            PointGroupName::parse(same).unwrap(),
            "{variant}"
        );
    }
    for n in [1_usize, 2, 3, 5, 7, 8, 12, 60] {
        for (name, order) in [
            (format!("C{n}"), n),
            (format!("C{n}v"), 2 * n),
            (format!("D{n}"), 2 * n),
            (format!("D{n}h"), 4 * n),
            (format!("D{n}d"), 4 * n),
        ] {
            let parsed = PointGroupName::parse(&name).unwrap();
            assert_eq!((parsed.to_string(), parsed.order()), (name.clone(), order));
            assert_eq!(FiniteGroup::point_group(&name, Z, None).unwrap().order(), order);
        }
    }
    for name in
        ["C5h", "S8", "S10", "D4d", "D5d", "D7h", "C8v", "I", "Ih", "312", "3m", "-31m", "-4m2", "-6m2"]
    {
        let parsed = PointGroupName::parse(name).unwrap();
        assert_eq!(PointGroupName::parse(&parsed.to_string()).unwrap(), parsed);
        let group = FiniteGroup::point_group(name, Z, None).unwrap();
        assert_eq!(group.order(), parsed.order());
        check_group(&group);
        check_representation(&group, FiniteRepresentation::Trivial);
        if group.has_improper() {
            check_representation(&group, FiniteRepresentation::Sign);
        }
    }
}

#[test]
fn lattice_groups_are_signed_permutations_to_the_last_bit() {
    let cubic = FiniteGroup::point_group("Oh", Z, None).unwrap();
    let exact = |m: &Array2<f64>| {
        m.iter().all(|v| v.to_bits() == 0 || v.abs() == 1.0) && m.iter().filter(|v| **v != 0.0).count() == 3
    };
    assert!((0..48).all(|a| exact(cubic.matrix(a).unwrap())));
    for (name, ..) in CRYSTALLOGRAPHIC {
        if name.contains('3') && !["23", "m-3", "432", "-43m", "m-3m"].contains(&name) || name.contains('6') {
            continue;
        }
        for axis in [X, Y, Z, [0.0, 0.0, -2.5], [0.0, -1.0, 0.0]] {
            let group = FiniteGroup::point_group(name, axis, None).unwrap();
            for a in 0..group.order() {
                let m = group.matrix(a).unwrap();
                assert!(exact(m), "{name} about {axis:?}: {m}");
                assert!(cubic.find(m).is_some());
            }
        }
    }
    // So are the 3-fold turns about a diagonal.
    let trigonal = FiniteGroup::point_group("C3", [1.0, 1.0, 1.0], None).unwrap();
    assert_eq!(trigonal.matrix(1).unwrap(), &array![[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
}

#[test]
fn axes_and_secondary_directions_are_as_documented() {
    let keeps = |name: &str, axis, secondary, v: [f64; 3], det: f64, trace: f64| {
        let group = FiniteGroup::point_group(name, axis, secondary).unwrap();
        let v = ndarray::arr1(&v);
        (0..group.order()).any(|a| {
            let m = group.matrix(a).unwrap();
            let own = nalgebra::Matrix3::from_fn(|i, j| m[[i, j]]).determinant();
            (m.diag().sum() - trace).abs() < 1e-12
                && (m.dot(&v) - &v).iter().all(|e| e.abs() < 1e-12)
                && (own - det).abs() < 1e-12
        })
    };
    // 2-fold axes: determinant 1, trace -1. Mirrors: determinant -1, trace 1.
    assert!(keeps("D3", Z, None, X, 1.0, -1.0));
    assert!(!keeps("D3", Z, None, Y, 1.0, -1.0));
    assert!(keeps("D3", Z, Some(Y), Y, 1.0, -1.0));
    assert!(keeps("D3", X, None, Y, 1.0, -1.0));
    assert!(keeps("D3", Y, None, Z, 1.0, -1.0));
    assert!(keeps("312", Z, None, Y, 1.0, -1.0));
    assert!(keeps("D2d", Z, None, X, 1.0, -1.0));
    assert!(keeps("-4m2", Z, None, [1.0, 1.0, 0.0], 1.0, -1.0));
    assert!(keeps("D3h", Z, None, X, 1.0, -1.0) && keeps("-6m2", Z, None, Y, 1.0, -1.0));
    assert!(keeps("C3v", Z, None, X, -1.0, 1.0) && !keeps("C3v", Z, None, Y, -1.0, 1.0));
    assert!(keeps("3m", Z, None, Y, -1.0, 1.0) && !keeps("3m", Z, None, X, -1.0, 1.0));
    // Only the part perpendicular to the axis counts.
    assert!(keeps("C5v", Z, Some([0.3, 0.0, 7.0]), X, -1.0, 1.0));
    // The mirror of Cs is normal to the axis.
    let mirror = FiniteGroup::point_group("Cs", Y, None).unwrap();
    assert_eq!(mirror.matrix(1).unwrap(), &array![[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]);
    // A 5-fold axis (trace golden) of the icosahedron through the vertex (0, 1, golden), in both orientations.
    let golden = f64::midpoint(1.0, 5.0_f64.sqrt());
    assert!(keeps("I", Z, None, [0.0, 1.0, golden], 1.0, golden));
    assert!(!keeps("I", Z, None, [1.0, 0.0, golden], 1.0, golden));
    assert!(keeps("I", Z, Some(Y), [1.0, 0.0, golden], 1.0, golden));
}

#[test]
fn labels_name_the_elements() {
    let labels = |name: &str, axis| {
        let group = FiniteGroup::point_group(name, axis, None).unwrap();
        (0..group.order()).map(|a| group.label(a).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(labels("C4", Z), ["E", "C4 [0,0,1]", "C2 [0,0,1]", "C4^3 [0,0,1]"]);
    // About the opposite direction it is the opposite turn.
    assert_eq!(labels("C3", [0.0, 0.0, -1.0]), ["E", "C3^2 [0,0,1]", "C3 [0,0,1]"]);
    assert_eq!(labels("S4", Y), ["E", "S4 [0,1,0]", "C2 [0,1,0]", "S4^3 [0,1,0]"]);
    assert_eq!(labels("C2h", Z), ["E", "C2 [0,0,1]", "σ [0,0,1]", "i"]);
    assert_eq!(labels("C2v", X), ["E", "C2 [1,0,0]", "σ [0,0,1]", "σ [0,1,0]"]);
    let third = labels("C3h", Z);
    assert_eq!(third[3..], ["σ [0,0,1]", "S3 [0,0,1]", "S3^5 [0,0,1]"]);
    assert!(labels("Oh", Z).contains(&"S6 [1,1,1]".to_owned()));
    assert!(labels("Td", Z).contains(&"σ [-1,1,0]".to_owned()));
}

#[test]
fn generated_groups_close() {
    // The hexagonal group in lattice coordinates: integer matrices that are not orthogonal.
    let sixfold = array![[1.0, -1.0], [1.0, 0.0]];
    let mirror = array![[0.0, 1.0], [1.0, 0.0]];
    let group = FiniteGroup::generated("p6m", &[sixfold, mirror], 100).unwrap().unwrap();
    assert_eq!((group.order(), group.name()), (12, "p6m"));
    check_group(&group);
    assert!(group.has_improper());
    assert_eq!(group.label(0), "e");
    assert_eq!(group.label(group.generators()[0]), "g0");
    let generators: Vec<_> = group.generators().to_vec();
    assert_eq!(group.label(group.multiply(generators[0], generators[0])), "g0^2");
    check_representation(&group, FiniteRepresentation::Sign);
    check_representation(&group, FiniteRepresentation::Regular);

    // Turns that are no exact numbers, over words as long as the order.
    for n in [7, 120, 1000] {
        let angle = std::f64::consts::TAU / f64::from(n);
        let turn = array![[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]];
        let group = FiniteGroup::generated("turns", &[turn], n as usize).unwrap().unwrap();
        assert_eq!(group.order(), n as usize);
    }
    // The icosahedral group from its own generators, in another orientation.
    let ico = FiniteGroup::point_group("Ih", [0.3, -0.2, 0.9], Some([1.0, 0.5, 0.1])).unwrap();
    let generators: Vec<_> = ico.generators().iter().map(|&a| ico.matrix(a).unwrap().clone()).collect();
    assert!(generators.len() <= 4);
    let again = FiniteGroup::generated("Ih", &generators, 120).unwrap().unwrap();
    assert_eq!(again.order(), 120);
    assert!((0..120).all(|a| ico.find(again.matrix(a).unwrap()).is_some()));
    assert_eq!(FiniteGroup::generated("Ih", &generators, 119).unwrap(), None);
}

#[test]
fn generated_groups_close_in_many_dimensions() {
    // A cyclic shift of 60 coordinates, seen from a frame in which no entry is exact.
    let n = 60;
    let shift = Array2::from_shape_fn((n, n), |(i, j)| if (j + 1) % n == i { 1.0 } else { 0.0 });
    let v = ndarray::Array1::from_shape_fn(n, |i| 1.0 / (i as f64 + 3.0).sqrt());
    let square = v.dot(&v);
    let mirror =
        Array2::from_shape_fn((n, n), |(i, j)| f64::from(u8::from(i == j)) - 2.0 * v[i] * v[j] / square);
    let turned = mirror.dot(&shift).dot(&mirror);
    let group = FiniteGroup::generated("shifts", &[turned], 1000).unwrap().unwrap();
    assert_eq!(group.order(), n);
    assert!(group.has_improper());
}

#[test]
fn infinite_groups_are_told() {
    let cases = [
        array![[2.0, 0.0], [0.0, 0.5]],
        array![[1.0, 1.0], [0.0, 1.0]],
        array![[2.0, 1.0], [1.0, 1.0]],
        array![[2.0, 0.0], [0.0, 2.0]],
        array![[1.0_f64.cos(), -1.0_f64.sin()], [1.0_f64.sin(), 1.0_f64.cos()]],
    ];
    for generator in cases {
        assert_eq!(FiniteGroup::generated("g", &[generator], 2000).unwrap(), None);
    }
}

#[test]
fn generated_permutations_close_and_compose_as_elements_do() {
    let cycle = vec![1, 2, 3, 0];
    let swap = vec![1, 0, 2, 3];
    let group = FiniteGroup::generated_permutations("S4", &[cycle, swap], 24).unwrap().unwrap();
    assert_eq!(group.order(), 24);
    check_group(&group);
    // x'[i] = x[p[i]], the right factor first.
    let act = |p: &[usize], x: &[usize]| p.iter().map(|&i| x[i]).collect::<Vec<_>>();
    let x = [10, 11, 12, 13];
    for a in 0..24 {
        for b in 0..24 {
            let both = act(group.permutation(a).unwrap(), &act(group.permutation(b).unwrap(), &x));
            assert_eq!(both, act(group.permutation(group.multiply(a, b)).unwrap(), &x));
        }
    }
    assert_eq!(check_representation(&group, FiniteRepresentation::Sign), 1.0);
    let signs = group.representation(&FiniteRepresentation::Sign).unwrap();
    assert_eq!(signs.iter().filter(|m| m[[0, 0]] < 0.0).count(), 12);
    assert_eq!(signs[group.generators()[1]][[0, 0]], -1.0);
    assert_eq!(group.dimension(), None);

    let even = FiniteGroup::generated_permutations("A3", &[vec![1, 2, 0]], 10).unwrap().unwrap();
    assert!(even.dimension_of(&FiniteRepresentation::Sign).is_err());
    let large: Vec<usize> = (1..9).chain([0]).collect();
    let swap = vec![1, 0, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(FiniteGroup::generated_permutations("S9", &[large, swap], 1000).unwrap(), None);
    // More elements than a table is kept for.
    let symmetric = FiniteGroup::generated_permutations(
        "S7",
        &[vec![1, 2, 3, 4, 5, 6, 0], vec![1, 0, 2, 3, 4, 5, 6]],
        5040,
    );
    let symmetric = symmetric.unwrap().unwrap();
    assert_eq!(symmetric.order(), 5040);
    for a in [1, 17, 999, 5039] {
        assert_eq!(symmetric.multiply(a, symmetric.inverse(a)), 0);
        let (p, q) = (symmetric.permutation(a).unwrap(), symmetric.permutation(4321).unwrap());
        let product: Vec<usize> = p.iter().map(|&i| q[i]).collect();
        assert_eq!(symmetric.permutation(symmetric.multiply(a, 4321)).unwrap(), product);
    }
}

#[test]
fn signs_are_as_documented() {
    let values = |group: &FiniteGroup| -> Vec<f64> {
        group.representation(&FiniteRepresentation::Sign).unwrap().iter().map(|m| m[[0, 0]]).collect()
    };
    assert_eq!(values(&FiniteGroup::sign()), [1.0, -1.0]);
    assert_eq!(values(&FiniteGroup::cyclic(4).unwrap()), [1.0, -1.0, 1.0, -1.0]);
    assert_eq!(values(&FiniteGroup::dihedral(3).unwrap()), [1.0, 1.0, 1.0, -1.0, -1.0, -1.0]);
    for proper in [FiniteGroup::cyclic(3).unwrap(), FiniteGroup::point_group("D4", Z, None).unwrap()] {
        let error = proper.dimension_of(&FiniteRepresentation::Sign).unwrap_err();
        assert!(error.to_string().contains("trivial"), "{error}");
    }
    check_group(&FiniteGroup::sign());
}

#[test]
fn errors_say_what_to_do() {
    let point = |name: &str, axis, secondary| {
        FiniteGroup::point_group(name, axis, secondary).unwrap_err().to_string()
    };
    let planar = |group: &str, text: &str| planar(group).dimension_of(&parse(text)).unwrap_err().to_string();
    let word = |text: &str| FiniteRepresentation::parse(text).unwrap_err().to_string();
    for (text, expected) in [
        (point("C4V", Z, None), "did you mean `C4v`?"),
        (point("oh", Z, None), "did you mean `Oh`?"),
        (point("4/mm", Z, None), "did you mean `4/m"),
        (point("S5", Z, None), "write `C5h`"),
        (point("C4i", Z, None), "write `C4h`"),
        (point("C0", Z, None), "not a point group"),
        (point("C65", Z, None), "up to 64"),
        (point("C99999999999999999999", Z, None), "up to 64"),
        (point("", Z, None), "not a point group"),
        (point("Ω4", Z, None), "available"),
        (point("D4", [0.0; 3], None), "no direction"),
        (point("D4", [f64::NAN, 0.0, 1.0], None), "no direction"),
        (point("D4", Z, Some([0.0, 0.0, -3.0])), "parallel"),
        (planar("C6", "irrep(4)"), "from 0 to 3"),
        (planar("C6", "irrep(1,1)"), "did you mean `irrep(1)`"),
        (planar("D6", "irrep(1)"), "did you mean `irrep(1,1)`"),
        (planar("D6", "irrep(0,2)"), "(0,3)"),
        (planar("D5", "irrep(2,1)"), "from 0 to 2"),
        (planar("C6", "quotient(C4)"), "1, 2, 3, 6"),
        (planar("C6", "quotient(C0)"), "1, 2, 3, 6"),
        (planar("C6", "quotient(D2)"), "did you mean `quotient(C2)`"),
        (planar("D6", "quotient(D2,3)"), "from 0 to 2"),
        (word("regulr"), "did you mean `regular`"),
        (word("irrep"), "examples"),
        (word("irrep(1,2,3)"), "examples"),
        (word("irrep(-1)"), "not a whole number"),
        (word("quotient(2)"), "examples"),
        (word("quotient(C2"), "closing"),
        (word("regular(2)"), "no argument"),
    ] {
        assert!(text.contains(expected), "`{text}` does not say `{expected}`");
    }
    let oh = FiniteGroup::point_group("Oh", Z, None).unwrap();
    for text in ["irrep(1)", "quotient(C2)"] {
        assert!(oh.dimension_of(&parse(text)).unwrap_err().to_string().contains("planar"));
    }
    assert!(FiniteGroup::cyclic(0).is_err() && FiniteGroup::dihedral(1025).is_err());
    for (generators, expected) in [
        (vec![], "at least one"),
        (vec![Array2::zeros((2, 3))], "2 x 3"),
        (vec![Array2::eye(2), Array2::eye(3)], "one size"),
        (vec![Array2::zeros((2, 2))], "singular"),
        (vec![array![[f64::NAN]]], "finite"),
    ] {
        let error = FiniteGroup::generated("g", &generators, 10).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for (generators, expected) in [
        (vec![], "at least one"),
        (vec![vec![0, 0]], "0 is out of range or occurs twice"),
        (vec![vec![0, 2]], "2 is out of range"),
        (vec![vec![0, 1], vec![0]], "one length"),
    ] {
        let error = FiniteGroup::generated_permutations("g", &generators, 10).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = PointGroupName::parse("C4V").unwrap_err().at("group", "C4V @ z", 0..3);
    assert!(error.to_string().contains("    ^^^\n"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the axis: the matrices are orthogonal, and the elements turn about the axis.
    #[test]
    fn any_axis_will_do(
        axis in prop::array::uniform3(-1.0..1.0_f64),
        secondary in prop::array::uniform3(-1.0..1.0_f64),
        exponent in -200..200_i32,
        name in prop::sample::select(vec!["C7", "C3v", "D5d", "S8", "D6h", "T", "Oh", "Ih", "-4m2", "-6m2"]),
    ) {
        let cross = [0, 1, 2].map(|i| axis[(i + 1) % 3] * secondary[(i + 2) % 3] - axis[(i + 2) % 3] * secondary[(i + 1) % 3]);
        prop_assume!(cross.iter().map(|c| c * c).sum::<f64>() > 1e-6);
        let scaled = axis.map(|c| c * 10.0_f64.powi(exponent));
        for secondary in [None, Some(secondary)] {
            let group = FiniteGroup::point_group(name, scaled, secondary).unwrap();
            for a in 0..group.order() {
                let m = group.matrix(a).unwrap();
                prop_assert!(distance(&m.dot(&m.t()), &Array2::eye(3)) < 4e-15);
            }
            let turned = group.matrix(1).unwrap().dot(&ndarray::arr1(&axis));
            if !["T", "Oh", "Ih"].contains(&name) {
                let sign = if ["D5d", "S8", "-4m2"].contains(&name) { -1.0 } else { 1.0 };
                prop_assert!(turned.iter().zip(axis).all(|(t, a)| (t - sign * a).abs() < 1e-14));
            }
            if group.order() <= 24 {
                check_group(&group);
            }
        }
    }

    /// No text makes a parser panic, and what parses prints as something that parses to the same.
    #[test]
    fn parsers_take_any_text(text in "[CDSTOIhvdimnr/0-9(), -]{0,8}|(irrep|quotient)\\([CD0-9, ]{0,6}\\)|\\PC{0,6}") {
        if let Ok(name) = PointGroupName::parse(&text) {
            prop_assert_eq!(PointGroupName::parse(&name.to_string()), Ok(name));
        }
        if let Ok(representation) = FiniteRepresentation::parse(&text) {
            prop_assert_eq!(FiniteRepresentation::parse(&representation.to_string()), Ok(representation));
            for group in [FiniteGroup::cyclic(6).unwrap(), FiniteGroup::dihedral(4).unwrap()] {
                let matrices = group.representation(&representation);
                prop_assert_eq!(matrices.is_ok(), group.dimension_of(&representation).is_ok());
            }
        }
    }
}
