//! `docs/faults.md`: each row names the files in which tests bear its number, and each such file stands in a row.

use std::collections::{BTreeMap, BTreeSet};

/// The page.
pub(super) const PAGE: &str = "docs/faults.md";

/// Files by the number of the fault.
type Places = BTreeMap<u32, BTreeSet<String>>;

/// The faults that tests in a source file are about.
pub(super) fn tested_in(text: &str) -> BTreeSet<u32> {
    text.split("fn fault_").skip(1).filter_map(|name| name.split_once('_')?.0.parse().ok()).collect()
}

/// What is wrong with the page, given the faults that each source file's tests are about.
pub(super) fn check(page: &str, tested: &BTreeMap<String, BTreeSet<u32>>) -> Vec<String> {
    let mut found = Places::new();
    for (file, numbers) in tested {
        for number in numbers {
            found.entry(*number).or_default().insert(file.clone());
        }
    }
    let mut findings = Vec::new();
    let mut listed = Places::new();
    for (number, files) in page.lines().filter_map(row) {
        if listed.insert(number, files).is_some() {
            findings.push(format!("{PAGE}: two rows are about fault {number}"));
        }
    }
    for (number, files) in &found {
        let row = listed.get(number);
        let missing = files.iter().filter(|file| row.is_none_or(|row| !row.contains(*file)));
        findings.extend(
            missing.map(|file| format!("{PAGE}: row {number} does not name {file}, whose tests say fault_{number:02}")),
        );
    }
    for (number, files) in &listed {
        let row = found.get(number);
        let untested = files.iter().filter(|file| row.is_none_or(|row| !row.contains(*file)));
        findings.extend(
            untested.map(|file| format!("{PAGE}: row {number} names {file}, where no test says fault_{number:02}")),
        );
        if files.is_empty() {
            findings.push(format!("{PAGE}: row {number} names no file with a test"));
        }
    }
    findings
}

/// A row's number and the files in its last column. A folder there, `a/b/`, stands before all that follow it up to
/// the next semicolon.
fn row(line: &str) -> Option<(u32, BTreeSet<String>)> {
    let columns: Vec<&str> = line.trim().strip_prefix('|')?.strip_suffix('|')?.split(" | ").collect();
    let number = columns.first()?.trim().parse().ok()?;
    let mut files = BTreeSet::new();
    for part in columns.last()?.split(';') {
        let mut folder = "";
        for name in part.split('`').skip(1).step_by(2) {
            if name.ends_with('/') {
                folder = name;
            } else {
                files.insert(format!("{folder}{name}"));
            }
        }
    }
    Some((number, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_WITH_TWO_ROWS: &str = "\
        | | what happens | what must hold | where |\n\
        |---|---|---|---|\n\
        | 3 | it ends | it goes on | `a/x.rs`, `b/tests/`: `y.rs`, `z.rs`; `c/w.rs` |\n\
        | 42 | nobody answers | `no` | `a/x.rs` |\n";

    fn tested(files: &[(&str, &[u32])]) -> BTreeMap<String, BTreeSet<u32>> {
        files.iter().map(|(file, numbers)| ((*file).to_owned(), numbers.iter().copied().collect())).collect()
    }

    #[test]
    fn a_page_that_agrees_with_the_tests_is_well() {
        let tested = tested(&[("a/x.rs", &[3, 42]), ("b/tests/y.rs", &[3]), ("b/tests/z.rs", &[3]), ("c/w.rs", &[3])]);
        assert_eq!(check(PAGE_WITH_TWO_ROWS, &tested), [""; 0]);
    }

    #[test]
    fn a_test_without_a_row_and_a_row_without_a_test_are_found() {
        let tested =
            tested(&[("a/x.rs", &[3, 7]), ("b/tests/y.rs", &[3, 42]), ("b/tests/z.rs", &[3]), ("c/w.rs", &[3])]);
        assert_eq!(
            check(PAGE_WITH_TWO_ROWS, &tested),
            [
                "docs/faults.md: row 7 does not name a/x.rs, whose tests say fault_07",
                "docs/faults.md: row 42 does not name b/tests/y.rs, whose tests say fault_42",
                "docs/faults.md: row 42 names a/x.rs, where no test says fault_42",
            ]
        );
        assert_eq!(
            check("| 5 | it ends | nothing |  |", &BTreeMap::new()),
            ["docs/faults.md: row 5 names no file with a test"]
        );
    }

    #[test]
    fn tests_are_known_by_their_names() {
        let text = "async fn fault_06_a() {}\n    fn fault_42_b() {}\nfn default_9_c() {}\n// see fault_11_d";
        assert_eq!(tested_in(text), BTreeSet::from([6, 42]));
    }
}
