//! The pages of `docs/decisions`: each has a number of its own, bears it in its title, and stands in the index.

use std::collections::BTreeMap;

/// Where the pages lie.
pub(super) const FOLDER: &str = "docs/decisions";
/// Their index.
pub(super) const INDEX: &str = "docs/decisions/README.md";

/// What is wrong with `pages` (path and text) and their `index`.
pub(super) fn check(pages: &[(&str, &str)], index: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (path, text) in pages {
        let name = path.rsplit('/').next().unwrap_or(path);
        let Some((number, _)) = name.split_once('-').filter(|(number, _)| is_number(number)) else {
            findings.push(format!("{path}: its name does not begin with a number of four digits"));
            continue;
        };
        if let Some(other) = owners.insert(number, path) {
            findings.push(format!("{path}: number {number} is taken by {other}"));
        }
        if !text.starts_with(&format!("# {number}: ")) {
            findings.push(format!("{path}: its title does not begin with `# {number}: `"));
        }
        if !index.contains(&format!("]({name})")) {
            findings.push(format!("{path}: {INDEX} does not list it"));
        }
    }
    findings
}

fn is_number(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: (&str, &str) = ("docs/decisions/0001-one.md", "# 0001: One\n");

    #[test]
    fn a_page_with_number_title_and_place_in_the_index_is_well() {
        assert_eq!(check(&[ONE], "| 0001 | [One](0001-one.md) |"), [""; 0]);
    }

    #[test]
    fn a_number_used_twice_is_found() {
        let other = ("docs/decisions/0001-other.md", "# 0001: Other\n");
        let findings = check(&[ONE, other], "[One](0001-one.md) [Other](0001-other.md)");
        assert_eq!(findings, ["docs/decisions/0001-other.md: number 0001 is taken by docs/decisions/0001-one.md"]);
    }

    #[test]
    fn a_page_without_number_title_or_place_in_the_index_is_found() {
        let pages = [("docs/decisions/12-short.md", "# 12: Short\n"), ("docs/decisions/0002-two.md", "# Two\n")];
        let findings = check(&pages, "");
        assert_eq!(
            findings,
            [
                "docs/decisions/12-short.md: its name does not begin with a number of four digits",
                "docs/decisions/0002-two.md: its title does not begin with `# 0002: `",
                "docs/decisions/0002-two.md: docs/decisions/README.md does not list it",
            ]
        );
    }
}
