//! Irreps of O(3): the notation and the action, against e3nn (`data/make_wigner.py`).

use equicheck::symmetry::wigner_d;
use equicheck::symmetry::{Irrep, Irreps, IrrepsErrorKind, Parity, proper_part};
use ndarray::{Array1, Array2, array, s};
use proptest::prelude::*;
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("data/wigner.json")).expect("the reference data are JSON")
}

fn matrix3(value: &Value) -> Array2<f64> {
    Array2::from_shape_fn((3, 3), |(i, j)| value[i][j].as_f64().unwrap())
}

fn parse(text: &str) -> Irreps {
    text.parse().unwrap()
}

#[test]
fn reads_and_refuses_the_same_texts_as_e3nn() {
    let reference = reference();
    for case in reference["notation"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ours = text.parse::<Irreps>();
        match case["canonical"].as_str() {
            Some(canonical) => {
                let ours = ours.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(ours.to_string(), canonical, "{text}");
                assert_eq!(Some(ours.dim() as u64), case["dim"].as_u64(), "{text}");
            }
            None => assert!(ours.is_err(), "{text} was read as {}", ours.unwrap()),
        }
    }
}

#[test]
fn dense_matrix_agrees_with_e3nn_on_o3() {
    let reference = reference();
    let unit = reference["unit"].as_f64().unwrap();
    let cases = reference["irreps"].as_array().unwrap();
    let mut improper = 0;
    for case in cases {
        let irreps = parse(case["irreps"].as_str().unwrap());
        let g = matrix3(&case["matrix"]);
        improper += usize::from(proper_part(&g.view()).1);
        let ours = irreps.dense(&g.view());
        let theirs = case["dense"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (our, their) in ours.iter().zip(theirs) {
            assert!((our - their.as_i64().unwrap() as f64 * unit).abs() <= 1e-13, "{irreps}");
        }
    }
    assert_eq!(2 * improper, cases.len());
}

#[test]
fn blocks_have_offsets_and_sizes() {
    let irreps = parse("8x0e + 4x1o+0x3e+2x2e");
    let blocks: Vec<_> =
        irreps.blocks().iter().map(|b| (b.multiplicity, b.irrep.to_string(), b.range())).collect();
    let expected = [
        (8, "0e".to_owned(), 0..8),
        (4, "1o".to_owned(), 8..20),
        (0, "3e".to_owned(), 20..20),
        (2, "2e".to_owned(), 20..30),
    ];
    assert_eq!(blocks, expected);
    assert_eq!((irreps.dim(), irreps.lmax()), (30, 3));
}

#[test]
fn inversion_multiplies_by_the_parity_alone() {
    let minus = -Array2::<f64>::eye(3);
    let dense = parse("0e+0o+1o+1e+2e+2o").dense(&minus.view());
    let signs: Array1<f64> = [(1.0, 1), (-1.0, 1), (-1.0, 3), (1.0, 3), (1.0, 5), (-1.0, 5)]
        .iter()
        .flat_map(|&(sign, count)| std::iter::repeat_n(sign, count))
        .collect();
    let error = (dense - Array2::from_diag(&signs)).mapv(f64::abs);
    assert!(error.iter().all(|e| *e < 1e-15));
}

#[test]
fn a_mirror_keeps_axial_vectors_along_its_normal() {
    let mirror = array![[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    assert_eq!(parse("1o").dense(&mirror.view()), mirror);
    assert_eq!(parse("1e").dense(&mirror.view()), -&mirror);
}

#[test]
fn blocks_of_an_element_carry_sign_and_matrix_and_can_be_reused() {
    let irreps = parse("2x1o+3x2e+1e");
    let turn = array![[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
    let mut matrices = irreps.matrices(&Array2::eye(3).view(), false);
    matrices.update(&turn.view(), true);
    let got: Vec<_> = matrices.blocks().collect();
    assert_eq!(got.iter().map(|b| b.sign).collect::<Vec<_>>(), [-1.0, 1.0, 1.0]);
    for block in got {
        assert_eq!(block.wigner, wigner_d(block.block.irrep.l(), &turn.view()));
    }
    let dense = irreps.dense(&(-&turn).view());
    assert_eq!(dense.slice(s![3..6, 3..6]), -&turn);
}

/// Every kind of error: the text, where it is, and what the message says.
#[test]
fn errors_say_where_and_what_to_do() {
    use IrrepsErrorKind as Kind;
    let unexpected = |expected| Kind::Unexpected { expected };
    let parity = "the parity `e` or `o`";
    let cases = [
        ("", 0..0, Kind::Empty, "write a sum of irreps such as `8x0e+4x1o`"),
        (" \t", 0..2, Kind::Empty, "the irreps are empty"),
        ("0e++1o", 2..3, Kind::MissingTerm, "`+` at byte 2 lacks an irrep on one side"),
        ("0e + ", 3..4, Kind::MissingTerm, "`+` at byte 3"),
        ("+0e", 0..1, Kind::MissingTerm, "`+` at byte 0"),
        (
            "8x0e+4x1",
            5..8,
            Kind::MissingParity { multiplicity: 4, l: 1 },
            "irreps `8x0e+4x1`: `4x1` at bytes 5..8 lacks a parity: write `4x1e` (even) or `4x1o` (odd)",
        ),
        ("2", 0..1, Kind::MissingParity { multiplicity: 1, l: 2 }, "write `2e` (even) or `2o` (odd)"),
        ("64", 0..2, Kind::MissingParity { multiplicity: 1, l: 64 }, "as in `64x0e`"),
        ("0e+ 8xo", 4..7, Kind::MissingDegree, "`8xo` at bytes 4..7 lacks a degree l"),
        ("e", 0..1, Kind::MissingDegree, "lacks a degree l"),
        ("8x", 0..2, Kind::MissingDegree, "lacks a degree l"),
        ("x1o", 0..3, Kind::MissingMultiplicity, "or drop `x`"),
        ("8*0e", 1..2, unexpected(parity), "`*` at byte 1 is unexpected: the parity `e` or `o`"),
        ("0e+1E", 4..5, unexpected(parity), "`E` at byte 4"),
        ("8×0e", 1..3, unexpected(parity), "`×` at bytes 1..3"),
        ("1e1o", 2..3, unexpected("`+` or the end"), "`1` at byte 2"),
        ("-1x0e", 0..1, unexpected("a degree l"), "`-` at byte 0"),
        (
            "0e+2x13o",
            5..7,
            Kind::DegreeTooLarge,
            "`13` at bytes 5..7 has too large a degree: degrees l up to 12",
        ),
        ("99999999999999999999x0e", 0..20, Kind::TooLarge, "is too large"),
        ("18446744073709551615x1e", 0..23, Kind::TooLarge, "the dimension does not fit"),
    ];
    for (text, span, kind, message) in cases {
        let error = text.parse::<Irreps>().unwrap_err();
        assert_eq!((error.span(), error.kind()), (span, kind), "{text}");
        assert_eq!(error.text(), text);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn lists_are_checked_as_texts_are() {
    assert_eq!(Irreps::new([]).unwrap_err().kind(), IrrepsErrorKind::Empty);
    let error = Irrep::new(13, Parity::Odd).unwrap_err();
    assert_eq!(
        error.to_string(),
        "irreps `13o`: `13o` at bytes 0..3 has too large a degree: degrees l up to 12 are supported"
    );
    let vector = Irrep::new(1, Parity::Odd).unwrap();
    assert_eq!(Irreps::new([(usize::MAX, vector)]).unwrap_err().kind(), IrrepsErrorKind::TooLarge);
    assert_eq!(Irreps::new([(4, vector)]).unwrap(), parse("4x1o"));
}

proptest! {
    // Without a file of past failures, which would be sought beside a lib.rs.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back(terms in prop::collection::vec((0_usize..100, 0_usize..=12, any::<bool>()), 1..6)) {
        let irreps = Irreps::new(terms.iter().map(|&(multiplicity, l, odd)| {
            (multiplicity, Irrep::new(l, if odd { Parity::Odd } else { Parity::Even }).unwrap())
        })).unwrap();
        prop_assert_eq!(&parse(&irreps.to_string()), &irreps);
        prop_assert_eq!(&parse(&irreps.to_string().replace('+', " +  ")), &irreps);
        let dim: usize = terms.iter().map(|(multiplicity, l, _)| multiplicity * (2 * l + 1)).sum();
        prop_assert_eq!(irreps.dim(), dim);
    }

    /// No text makes the parser panic, spans lie on character boundaries, messages are made.
    #[test]
    fn any_text_is_read_or_refused(text in "[0-9xeoy+ ×é\t]{0,12}") {
        match text.parse::<Irreps>() {
            Ok(irreps) => prop_assert_eq!(parse(&irreps.to_string()), irreps),
            Err(error) => {
                prop_assert!(text.get(error.span()).is_some());
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
