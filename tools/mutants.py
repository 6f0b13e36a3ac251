"""Break one guard at a time, and see that the test named for it goes red.

    python3 tools/mutants.py [NAME ...]      (by hand: about a minute for each)

Works on a copy of the checkout in target/mutants, which shares no build with it. A mutant whose text is no longer in
the source is an error here: move it along with the code. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "mutants"
SOURCE = "crates/equicheck/src"


@dataclass(frozen=True)
class Mutant:
    """One wrong line, and the tests of which at least the named one must fail."""

    name: str
    file: str
    right: str
    wrong: str
    target: str
    """`--test NAME` or `--lib`."""
    test: str


MUTANTS = (
    Mutant(
        "vectors turn by the inverse",
        "symmetry/representation.rs",
        "=> Some(element.linear().clone()),",
        "=> Some(element.linear_inverse()),",
        "--test symmetry",
        "vectors_points_and_tensors_by_hand",
    ),
    Mutant(
        "the translation is dropped",
        "symmetry/action.rs",
        "blocks.shift(start, element.translation()",
        "blocks.shift(start, Element::default().translation()",
        "--test symmetry",
        "points_compose_as_in_e3",
    ),
    Mutant(
        "index values are not permuted along",
        "symmetry/action.rs",
        "if let Some(relabel) = self.relabelling(element)\n",
        "if let Some(relabel) = self.relabelling(&Element::default())\n",
        "--test symmetry",
        "nodes_edges_and_adjacency_agree",
    ),
    Mutant(
        "Wigner D is transposed",
        "symmetry/irreps.rs",
        "dense[[self.index(&block, copy, i), self.index(&block, copy, j)]]",
        "dense[[self.index(&block, copy, j), self.index(&block, copy, i)]]",
        "--test symmetry",
        "irreps_carry_the_harmonics_of_turned_vectors",
    ),
    Mutant(
        "permutations compose the other way",
        "symmetry/element.rs",
        "Some(q) => p.iter().map(|&i| q[i]).collect(),",
        "Some(q) => q.iter().map(|&i| p[i]).collect(),",
        "--test symmetry",
        "every_layout_is_an_orthogonal_representation",
    ),
    Mutant(
        "elements of determinant -1 keep their sign on pseudovectors",
        "symmetry/representation.rs",
        "Some(element.linear() * element.determinant()),\n            Self::Pseudoscalar",
        "Some(element.linear().clone()),\n            Self::Pseudoscalar",
        "--test symmetry",
        "pseudovectors_are_cross_products_of_vectors",
    ),
    Mutant(
        "the transpose is not taken",
        "symmetry/action.rs",
        "let matrix = if transposed { matrix.reversed_axes() } else { matrix };",
        "let matrix = if transposed { matrix } else { matrix };",
        "--test actions",
        "continuous_groups_act",
    ),
    Mutant(
        "rotations are not Haar distributed",
        "audit/sampling.rs",
        "DMatrix::from_fn(n, n, |_, _| self.normal());",
        "DMatrix::from_fn(n, n, |_, _| self.uniform());",
        "--lib",
        "rotations_are_haar_distributed",
    ),
    Mutant(
        "permutations leave their segments",
        "audit/sampling.rs",
        "let p = draws.permutation(n, space.segments.get(axis).map(Vec::as_slice));",
        "let p = draws.permutation(n, None);",
        "--lib",
        "permutations_stay_within_their_segments_and_are_uniform_there",
    ),
    Mutant(
        "an optional stop keeps the bound of a fixed plan",
        "audit/evidence.rs",
        "_ if self.stop == Stop::Completed => {",
        "_ if self.stop >= Stop::Completed => {",
        "--lib",
        "bounds_hold_although_one_stops_when_one_likes",
    ),
    Mutant(
        "all bounds get the whole error probability",
        "audit/evidence.rs",
        "let alpha = (1.0 - CONFIDENCE) / bounds as f64;",
        "let alpha = (1.0 - CONFIDENCE) / (bounds as f64).min(1.0);",
        "--lib",
        "all_bounds_of_a_report_hold_together",
    ),
    Mutant(
        "rows are averaged over",
        "audit/measure.rs",
        "if error.rows.is_empty() {",
        "if error.rows.len() < 9 {",
        "--lib",
        "one_bad_row_among_ten_thousand_shows_in_full",
    ),
    Mutant(
        "a noisy reference excuses a violation",
        "audit/verdict.rs",
        "self.noise.min(REFERENCE_NOISE).max(",
        "self.noise.max(",
        "--lib",
        "a_noisy_reference_excuses_nothing_beyond_single_precision",
    ),
)


def cargo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy."""
    env = os.environ | {"CARGO_TARGET_DIR": str(COPY / "target"), "RUST_BACKTRACE": "0"}
    command = ["cargo", "test", "--quiet", "-p", "equicheck", *arguments]
    return subprocess.run(command, cwd=COPY / "source", env=env, capture_output=True, text=True, check=False)


def survives(mutant: Mutant) -> str:
    """Why the mutant survives, or nothing."""
    path = COPY / "source" / SOURCE / mutant.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.right) != 1:
        return f"its text is {source.count(mutant.right)} times in {mutant.file}, once is needed"
    path.write_text(source.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        done = cargo(*mutant.target.split(), mutant.test)
    finally:
        path.write_text(source, encoding="utf-8")
    if done.returncode == 0:
        return f"{mutant.test} passes"
    if "could not compile" in done.stderr:
        return f"it does not compile: {done.stderr.splitlines()[0]}"
    return "" if f"{mutant.test} " in done.stdout or mutant.test in done.stdout else f"{mutant.test} did not run"


def main() -> int:
    """Try the mutants, and print which were killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of names; all by default")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.names or any(part in m.name for part in options.names)]
    shutil.rmtree(COPY / "source", ignore_errors=True)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        target = COPY / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    for where, test in sorted({(m.target, m.test) for m in chosen}):
        if cargo(*where.split(), test).returncode:
            print(f"{test} fails without any mutant")
            return 1
    alive = 0
    for mutant in chosen:
        why = survives(mutant)
        alive += bool(why)
        print(f"{'SURVIVES' if why else 'killed':<8}  {mutant.name}: {why or mutant.test}", flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
