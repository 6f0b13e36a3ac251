//! The small languages of groups and layouts: what they read, print and refuse, and where their errors point.

use equicheck::ParseError;
use equicheck::symmetry::{Axis, Factor, Group, IndexValues, Layout, Representation, Term};
use proptest::prelude::*;

fn group(text: &str) -> Group {
    Group::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn layout(text: &str, under: &str) -> Layout {
    Layout::parse(text, &group(under)).unwrap_or_else(|error| panic!("{error}"))
}

/// The text that the carets mark, checked to stand right under it.
#[track_caller]
fn marked(error: &ParseError) -> String {
    let message = error.to_string();
    let lines: Vec<&str> = message.lines().collect();
    let (text, marks) = (lines[1].strip_prefix("    ").unwrap(), lines[2].strip_prefix("    ").unwrap());
    assert_eq!(text.chars().count(), error.text.chars().count(), "{message}");
    let start = marks.chars().take_while(|c| *c == ' ').count();
    let length = marks.chars().count() - start;
    assert_eq!(marks.trim_start(), "^".repeat(length), "{message}");
    text.chars().skip(start).take(length).collect()
}

/// Text, what is marked (nothing: the end), the message, a part of the help.
type Case = (&'static str, &'static str, &'static str, &'static str);

#[track_caller]
fn check(subject: &str, parse: impl Fn(&str) -> Result<String, ParseError>, cases: &[Case]) {
    for (text, mark, message, help) in cases {
        let error = match parse(text) {
            Ok(read) => panic!("`{text}` was read as `{read}`"),
            Err(error) => error,
        };
        assert_eq!(error.message, *message, "{text:?}");
        assert_eq!(marked(&error), *mark, "{error}");
        assert_eq!(error.subject, subject);
        assert!(error.help.as_ref().unwrap().contains(help), "{error}");
        assert!(error.to_string().ends_with(error.help.as_ref().unwrap()), "{error}");
    }
}

#[test]
fn groups_are_read_in_every_spelling_and_printed_in_one() {
    for (text, canonical) in [
        ("E(3) x S(nodes)", "E(3) x S(nodes)"),
        ("E(3)xS(nodes)", "E(3) x S(nodes)"),
        ("  SO( 3 ) ", "SO(3)"),
        ("SE(2)×S(nodes)", "SE(2) x S(nodes)"),
        ("SE(2) * S(nodes)*S(edges)", "SE(2) x S(nodes) x S(edges)"),
        ("\tO (64)\n", "O(64)"),
        ("T(1)", "T(1)"),
        ("S(x)xS(x_2) x SO(02)", "S(x) x S(x_2) x SO(2)"),
        ("S(Atome_für_Öl)", "S(Atome_für_Öl)"),
        ("SO(3) x T(3)", "SO(3) x T(3)"),
        ("SO+( 1, 3 )*T(4)", "SO+(1,3) x T(4)"),
        ("O(1,3) x U(1) x Scale x Z2", "O(1,3) x U(1) x Scale x Z2"),
        ("C4 x 2T(2)", "C4 x 2T(2)"),
        ("T(1) @height xT(1)@ width", "T(1) @ height x T(1) @ width"),
        ("D4 @ (0, 0, 2.5)", "D4 @ (0,0,1)"),
        ("422@z", "D4 @ (0,0,1)"),
        ("C3v @ (1,1,1), (1,-1,0) x S(nodes)", "C3v @ (1,1,1), (1,-1,0) x S(nodes)"),
        ("m-3m", "Oh"),
        ("1", "C1 @ (0,0,1)"),
        ("Td x T(3)", "Td x T(3)"),
        ("generated( [[0,-1],[1,0]] )", "generated([[0, -1], [1, 0]])"),
        ("generated([[1,1],[0,1]])", "generated([[1, 1], [0, 1]])"),
        ("generated(nodes: [1,2,0]) x SO(3)", "generated(nodes: [1, 2, 0]) x SO(3)"),
    ] {
        assert_eq!(group(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn groups_fall_into_factors() {
    let parts = |text: &str| {
        let group = group(text);
        let factors = group.factors().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let axes = group.permuted_axes().collect::<Vec<_>>().join(" ");
        (factors, group.dimension(), axes)
    };
    let expected = |factors: &str, dimension, axes: &str| (factors.to_owned(), dimension, axes.to_owned());
    assert_eq!(parts("E(3) x S(nodes)"), expected("O(3) T(3) S(nodes)", Some(3), "nodes"));
    assert_eq!(parts("SE(2)"), expected("SO(2) T(2)", Some(2), ""));
    assert_eq!(parts("T(3) x O(3)"), expected("T(3) O(3)", Some(3), ""));
    assert_eq!(parts("S(a) x S(b)"), expected("S(a) S(b)", None, "a b"));
    assert!(group("S(a)").permutes("a") && !group("S(a)").permutes("A"));
    assert_eq!(group("SO(3)").terms(), [Term::SpecialOrthogonal(3)]);
    assert_eq!(group("O(3)").factors(), [Factor::Linear { dimension: 3, improper: true }]);
    assert_eq!(group("SO(3)").factors(), [Factor::Linear { dimension: 3, improper: false }]);
}

const GROUPS: &str = "available: SO(n), O(n), SE(n), E(n), T(n), S(axis), ";

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn group_errors_point_at_the_word() {
    let permuted = "a permutation group needs the name of the axis that it permutes";
    let dimension = "`SO(n)` needs a dimension from 2 to 64";
    check(
        "group",
        |text| Group::parse(text).map(|g| g.to_string()),
        &[
            ("", "", "the text is empty", GROUPS),
            ("  \t\n", " ", "the text is empty", GROUPS),
            ("SO3", "SO3", "`SO3` is not a group known here", "did you mean `SO(3)`?"),
            ("so3", "so3", "`so3` is not a group known here", "did you mean `SO(3)`?"),
            ("se(3)", "se", "`se` is not a group known here", "did you mean `SE`?"),
            ("E(3) x s(nodes)", "s", "`s` is not a group known here", "did you mean `S`?"),
            ("S4", "S4", "`S4` needs the axis that it turns about", "example: `S4 @ (0,0,1)`"),
            ("C4v", "C4v", "`C4v` needs the axis that it turns about", "example: `C4v @ (0,0,1)`"),
            (
                "D4 @ (0,0,0)",
                "0,0,0",
                "a direction is three numbers, not all zero",
                "example: `D4 @ (0,0,1)`",
            ),
            ("D4 @ up", "up", "expected a direction in space after `@`", "example: `D4 @ (0,0,1)`"),
            ("SO+(2)", "SO+(2)", "`SO+` is known in 1 + 3 dimensions alone", "write `SO+(1,3)`"),
            (
                "SO(1,3)",
                "SO(1,3)",
                "`SO(1,3)` holds the total inversion, which turns time around",
                "write `SO+(1,3)` for boosts and rotations",
            ),
            ("O(1,2)", "2", "Lorentz groups are known in 1 + 3 dimensions", "write `SO+(1,3)`"),
            ("U(2)", "2", "of the unitary groups, `U(1)` alone is known", "write `U(1)`"),
            ("U1", "U1", "`U1` is not a group known here", "did you mean `U(1)`?"),
            (
                "T(2) @ height",
                "height",
                "`T(2)` shifts 2 axes, `@ height` names one",
                "write `T(1) @ height`",
            ),
            ("T(1) @ heigth", "heigth", "expected an axis of a grid after `@`", "did you mean `height`?"),
            ("0T(2)", "0T", "`0` before `T` is no number of pixels", "example: `2T(2)`"),
            (
                "generated([[1,2]])",
                "[[1,2]]",
                "generators are square matrices, of 1 to 64 rows",
                "example: `generated([[0, -1], [1, 0]])`",
            ),
            ("generated(nodes 1)", "nodes 1", "expected matrices as lists of rows", "example"),
            ("C4 x SO(2)", "SO(2)", "`C4` and `SO(2)` act on the same space", "keep the larger one"),
            (
                "C4 x T(1) @ height",
                "T(1) @ height",
                "`C4` and `T(1) @ height` do not form a group: turns mix the axes",
                "`T(2)`",
            ),
            ("Z2 x Z2", "Z2", "`Z2` and `Z2` are the same group", "keep one of them"),
            ("SU(2)", "SU", "`SU` is not a group known here", GROUPS),
            ("nodes", "nodes", "`nodes` is not a group known here", GROUPS),
            ("S(4)", "4", permuted, "example: `S(nodes)`"),
            ("S(½)", "½", permuted, "example: `S(nodes)`"),
            ("S()", ")", permuted, "example: `S(nodes)`"),
            (
                "E(3) x S(point)",
                "point",
                "`point` is a word of the layout language and cannot name a permuted axis",
                "`points`",
            ),
            ("S", "S", "`S` needs an argument in parentheses", "example: `S(nodes)`"),
            ("E x S(nodes)", "E", "`E` needs an argument in parentheses", "example: `E(3)`"),
            ("T 3", "3", "expected `x` between two groups", "example"),
            ("SO(1)", "1", dimension, "example: `SO(3)`"),
            ("SO(65)", "65", dimension, "example: `SO(3)`"),
            ("SO(n)", "n", dimension, "example: `SO(3)`"),
            ("SO( )", "SO( )", dimension, "example: `SO(3)`"),
            ("SO(99999999999999999999)", "99999999999999999999", dimension, "example"),
            ("SO(３)", "３", dimension, "example"),
            ("T(0)", "0", "`T(n)` needs a dimension from 1 to 64", "example: `T(3)`"),
            ("SO(-3)", "-3", "expected `)`", GROUPS),
            ("SO(3", "3", "expected `)`", GROUPS),
            ("SO(", "", "expected `)`", GROUPS),
            ("O(2,3)", ",3", "expected `)`", GROUPS),
            ("S(nodes edges)", "edges", "expected `)`", GROUPS),
            (
                "E(3) x S(nodes) x S(nodes)",
                "S(nodes)",
                "`S(nodes)` and `S(nodes)` permute the same axis",
                "one",
            ),
            ("SO(3) x E(3)", "E(3)", "`SO(3)` and `E(3)` act on the same space", "keep the larger one"),
            (
                "SE(3) x S(a) x T(3)",
                "T(3)",
                "`SE(3)` and `T(3)` act on the same space",
                "keep the larger one",
            ),
            (
                "SO(3) x T(2)",
                "T(2)",
                "`SO(3)` and `T(2)` act on spaces of different dimensions",
                "keep one of them",
            ),
            ("E(3) S(nodes)", "S(nodes)", "expected `x` between two groups", "example: `E(3) x S(nodes)`"),
            ("E(3) + S(nodes)", "+", "expected `x` between two groups", "example"),
            ("E(3) X S(nodes)", "X", "expected `x` between two groups", "example"),
            ("E(3) x", "", "expected a group", GROUPS),
            ("E(3) × × S(nodes)", "×", "expected a group", GROUPS),
            ("(3)", "(3)", "expected a group", GROUPS),
        ],
    );
}

#[test]
fn marks_stand_under_their_text_in_any_script() {
    let error = Group::parse("S(Öl) × S(größe) × S(Öl)").unwrap_err();
    let wanted = "\
group: `S(Öl)` and `S(Öl)` permute the same axis
    S(Öl) × S(größe) × S(Öl)
                       ^^^^^
keep one of them";
    assert_eq!(error.to_string(), wanted);
    let error = Layout::parse("größe! véctor", &group("SO(3)")).unwrap_err().about("layout of input `x`");
    let wanted = "\
layout of input `x`: unknown word `véctor`
    größe! véctor
           ^^^^^^
did you mean `vector`? a plain axis of that name is written `véctor!`";
    assert_eq!(error.to_string(), wanted);
    // Line breaks and tabs do not move the marks away.
    let error = Layout::parse("nodes\n\tvectr", &group("SO(3)")).unwrap_err();
    assert!(error.to_string().contains("\n    nodes  vectr\n           ^^^^^\n"), "{error}");
}

#[test]
fn layouts_are_read_word_by_word() {
    let plain = |name: &str, marked| Axis::Plain { name: name.to_owned(), marked };
    let irreps = |text: &str| Axis::of(Representation::Irreps(text.parse().unwrap()));
    let nodes = || Axis::Permuted("nodes".to_owned());
    let all = "E(3) x S(nodes)";
    for (text, axes) in [
        ("", vec![]),
        (" ", vec![]),
        ("nodes vector", vec![nodes(), Axis::of(Representation::Vector)]),
        ("  nodes\tpoint\n", vec![nodes(), Axis::of(Representation::Point)]),
        (
            "... batch 3 pseudovector",
            vec![Axis::Ellipsis, Axis::Batch, Axis::Size(3), Axis::of(Representation::Pseudovector)],
        ),
        ("edges bins! nodes!", vec![plain("edges", false), plain("bins", true), plain("nodes", true)]),
        ("nodes nodes channel", vec![nodes(), nodes(), plain("channel", false)]),
        ("8x0e+4x1o", vec![irreps("8x0e+4x1o")]),
        ("nodes 8x0e + 4x1o vector", vec![nodes(), irreps("8x0e+4x1o"), Axis::of(Representation::Vector)]),
        ("0e +1o+ 2e 4", vec![irreps("0e+1o+2e"), Axis::Size(4)]),
        ("1y 2y", vec![irreps("1y"), irreps("2y")]),
        ("0 18446744073709551615", vec![Axis::Size(0), Axis::Size(usize::MAX)]),
        ("größe! _!", vec![plain("größe", true), plain("_", true)]),
    ] {
        let read = layout(text, all);
        assert_eq!(read.axes(), axes, "{text:?}");
        assert_eq!(read.values(), None);
    }
    // The group decides what is permuted; a permuted axis may bear any other word's name.
    assert_eq!(layout("nodes", "E(3)").axes(), [plain("nodes", false)]);
    assert_eq!(layout("batch", "S(batch)").axes(), [Axis::Permuted("batch".to_owned())]);
    assert_eq!(layout("vector 1o", "S(nodes)").axes(), [Axis::of(Representation::Vector), irreps("1o")]);
}

#[test]
fn clauses_on_values_name_an_axis_and_a_sentinel() {
    let all = "E(3) x S(nodes) x S(edges)";
    let values = |axis: &str, sentinel| Some(IndexValues { axis: axis.to_owned(), sentinel });
    for (text, clause, printed) in [
        ("2 edges : nodes", values("nodes", None), "2 edges : nodes"),
        ("2 edges:nodes|-1", values("nodes", Some(-1)), "2 edges : nodes | -1"),
        (" : edges | 99 ", values("edges", Some(99)), ": edges | 99"),
        // Positions along an axis that nothing permutes stay.
        ("2 edges : graphs", None, "2 edges"),
    ] {
        let read = layout(text, all);
        assert_eq!(read.values(), clause.as_ref(), "{text}");
        assert_eq!(read.to_string(), printed);
    }
    let mentioned = |text: &str| layout(text, all).permuted_axes().collect::<Vec<_>>().join(" ");
    assert_eq!(mentioned("2 edges : nodes"), "edges nodes");
    assert_eq!(mentioned("nodes vector"), "nodes");
}

#[test]
fn layout_errors_point_at_the_word() {
    let parse = |text: &str| Layout::parse(text, &group("E(3) x S(atoms)")).map(|l| l.to_string());
    let leading = "`...` stands for leading axes and must come first";
    let affine =
        "`point` is affine and cannot be combined with another axis on which the group's matrix acts";
    let clause = "expected one axis name after `:`";
    check(
        "layout",
        parse,
        &[
            ("atoms vectr", "vectr", "unknown word `vectr`", "did you mean `vector`?"),
            ("atoms Vector", "Vector", "unknown word `Vector`", "did you mean `vector`?"),
            ("atom vector", "atom", "unknown word `atom`", "did you mean `atoms`?"),
            ("node", "node", "unknown word `node`", "did you mean `nodes`?"),
            ("chanel", "chanel", "unknown word `chanel`", "`chanel!`"),
            (
                "frequency",
                "frequency",
                "unknown word `frequency`",
                "a plain axis of that name is written `frequency!`",
            ),
            ("frequency", "frequency", "unknown word `frequency`", "needs `S(frequency)` in the group"),
            ("a,b", "a,b", "unknown word `a,b`", "known words: channel, features"),
            ("(graphs ...) vector", "...", "a flattened axis holds plain words alone", "(graphs 3)"),
            ("((graphs) 3)", "(graphs)", "a flattened axis holds plain words alone", "(graphs 3)"),
            ("( ) vector", "( )", "a flattened axis holds at least one word", "(graphs 3)"),
            ("(graphs vctor)", "vctor", "unknown word `vctor`", "did you mean `vector`?"),
            ("[3]", "[3]", "flattened axes are written in one pair of parentheses", "row-major"),
            ("bi-ns! vector", "bi-ns!", "`!` must follow a name of letters, digits and `_`", "bins!"),
            ("!", "!", "`!` must follow a name of letters, digits and `_`", "bins!"),
            (
                "99999999999999999999 vector",
                "99999999999999999999",
                "`99999999999999999999` is too large for a size",
                "name",
            ),
            ("atoms ...", "...", leading, "move it to the front"),
            ("... ...", "...", leading, "move it to the front"),
            ("point point", "point", affine, "is `vector`"),
            ("vector atoms point", "point", affine, "is `vector`"),
            ("point 8x0e", "point", affine, "is `vector`"),
            ("2 edges : ", ":", clause, "example: `2 edges : nodes`"),
            ("2 edges : atoms edges", "atoms edges", clause, "example"),
            ("2 edges : atoms : atoms", "atoms : atoms", clause, "example"),
            ("2 edges : atoms!", "atoms!", clause, "example"),
            ("2 edges : 3", "3", clause, "example"),
            ("2 edges : | 3", ":", clause, "example"),
            ("2 edges : atoms |", "", "expected an integer after `|`", "example: `: nodes | -1`"),
            ("2 edges : atoms |  none ", "none", "expected an integer after `|`", "example"),
            ("2 edges : atoms | -1 | -2", "-1 | -2", "expected an integer after `|`", "example"),
            ("2 edges : atom", "atom", "the group does not permute `atom`", "did you mean `atoms`?"),
            ("2 edges : residues", "residues", "the group does not permute `residues`", "add `S(residues)`"),
            (
                "atoms vector : atoms",
                "atoms",
                "index values cannot stand in a tensor with a `vector` axis",
                "integers without geometry",
            ),
            ("vector ~ scale", "scale", "outputs defined only up to that are not supported", "projector"),
        ],
    );
}

#[test]
fn irreps_errors_point_into_the_layout() {
    for (text, mark, message) in [
        ("atoms 8x0e+4x1 vector", "4x1", "lacks a parity"),
        ("atoms 8x0e + 2x13o", "13", "too large a degree"),
        ("größe! 0e++1o", "+", "lacks an irrep on one side"),
        ("größe! 0e + + 1o", "+", "lacks an irrep on one side"),
        ("atoms 8×0e", "×", "is unexpected"),
        ("atoms 3xm0+2xm1", "m0", "is an irrep of O(2)"),
        ("8x0e+", "+", "lacks an irrep on one side"),
        ("vector+", "+", "lacks a summand on one side"),
        ("2*vector+ +scalar", "+", "lacks a summand on one side"),
        ("99999999999999999999x0e", "99999999999999999999", "is too large"),
    ] {
        let error = Layout::parse(text, &group("E(3) x S(atoms)")).unwrap_err();
        assert_eq!(marked(&error), mark, "{error}");
        assert!(error.message.contains(message), "{error}");
    }
    let error = Layout::parse("nodes 8x0e + 4x1o", &group("SE(2)")).unwrap_err();
    assert_eq!(marked(&error), "8x0e + 4x1o");
    assert_eq!(error.message, "`8x0e + 4x1o` are irreps of O(3), and `SE(2)` acts in dimension 2");
}

fn term() -> impl Strategy<Value = Term> {
    prop_oneof![
        (2_usize..=64).prop_map(Term::SpecialOrthogonal),
        (2_usize..=64).prop_map(Term::Orthogonal),
        (2_usize..=64).prop_map(Term::SpecialEuclidean),
        (2_usize..=64).prop_map(Term::Euclidean),
        (1_usize..=64).prop_map(|n| Term::Translation(equicheck::symmetry::Shift::of(n))),
    ]
}

const WORDS: [&str; 20] = [
    "nodes",
    "nodes",
    "edges",
    "vector",
    "point",
    "pseudovector",
    "batch",
    "...",
    "channel",
    "graphs",
    "3",
    "17",
    "point mod batch.cell",
    "fractional(0.cell)",
    "bins!",
    "größe!",
    "8x0e+4x1o",
    "2y",
    "1x0e + 0x3e",
    "chnnel",
];

/// What cannot be wrong with an error: its span lies on characters of the text, so that it prints.
fn prints(error: &ParseError, text: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(&error.text, text);
    prop_assert!(text.get(error.span.clone()).is_some(), "{:?} of {:?}", error.span, text);
    marked(error);
    Ok(())
}

proptest! {
    // Without a file of past failures, which would be sought beside a lib.rs.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_groups_read_back(space in prop::option::of(term()), axes in prop::collection::btree_set("[a-zé_][a-z0-9ß_]{0,5}", 0..3)) {
        prop_assume!(!axes.contains("point"));
        let terms: Vec<Term> = space.into_iter().chain(axes.into_iter().map(Term::Symmetric)).collect();
        prop_assume!(!terms.is_empty());
        let text = terms.iter().map(ToString::to_string).collect::<Vec<_>>();
        for separator in [" x ", "x", " × ", "*"] {
            let read = group(&text.join(separator));
            prop_assert_eq!(read.terms(), &terms);
            prop_assert_eq!(read.to_string(), text.join(" x "));
        }
    }

    #[test]
    fn printed_layouts_read_back(words in prop::collection::vec(prop::sample::select(&WORDS), 0..5), clause in "( : (nodes|graphs)( \\| -?[0-9])?)?( ~ (sign|phase|S\\((bins|edges|nodes)\\)))?") {
        let text = words.join(" ") + &clause;
        for under in ["E(3) x S(nodes)", "S(nodes) x S(edges)", "T(3) x S(nodes)"] {
            let under = group(under);
            match Layout::parse(&text, &under) {
                Ok(read) => {
                    let printed = read.to_string();
                    prop_assert_eq!(Layout::parse(&printed, &under).unwrap(), read, "{}", printed);
                }
                Err(error) => prints(&error, &text)?,
            }
        }
    }

    /// No text makes a parser panic; whatever is read prints and reads back.
    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), "[SOET(0-9)x×* a-c_é\t]{0,16}", "[a-d0-9xeoy+.:|~!() é×\t-]{0,16}"]) {
        match Group::parse(&text) {
            Ok(read) => prop_assert_eq!(group(&read.to_string()), read),
            Err(error) => prints(&error, &text)?,
        }
        let under = group("E(3) x S(a) x S(b)");
        match Layout::parse(&text, &under) {
            Ok(read) => prop_assert_eq!(Layout::parse(&read.to_string(), &under).unwrap(), read),
            Err(error) => prints(&error, &text)?,
        }
    }

    #[test]
    fn slips_of_the_finger_find_the_word(word in prop::sample::select(&["vector", "pseudovector", "channel", "features", "classes", "graphs"][..]), at in 0_usize..6, swap in any::<bool>()) {
        let mut letters: Vec<char> = word.chars().collect();
        if swap && at + 1 < letters.len() { letters.swap(at, at + 1) } else { letters.remove(at); }
        let slip: String = letters.into_iter().collect();
        prop_assume!(slip != word);
        let error = Layout::parse(&slip, &group("E(3)")).unwrap_err();
        let wanted = format!("did you mean `{word}`?");
        prop_assert!(error.help.as_ref().unwrap().starts_with(&wanted), "{}", error);
    }
}
