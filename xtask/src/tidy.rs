//! What no compiler checks.

mod decisions;
mod faults;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

/// Which crates of ours each crate may depend on, tests included. `docs/architecture.md` draws it.
const ARROWS: &[(&str, &[&str])] = &[
    ("node-model", &[]),
    ("bundle", &["node-model"]),
    ("restore-plan", &["node-model"]),
    ("restore-events", &["node-model"]),
    ("linux-io", &["node-model"]),
    ("server-api", &["bundle", "restore-events"]),
    ("restore-engine", &["restore-plan", "bundle", "server-api", "linux-io", "restore-events", "node-model"]),
    ("capture-agent", &["linux-io", "bundle", "server-api", "node-model"]),
    ("restore-tui", &["restore-events"]),
    ("bundle-server", &["bundle", "server-api", "restore-events"]),
    ("initramfs", &["linux-io"]),
    ("image-builder", &[]),
    (
        "rerack",
        &[
            "node-model",
            "bundle",
            "restore-plan",
            "restore-events",
            "linux-io",
            "restore-engine",
            "capture-agent",
            "server-api",
            "bundle-server",
            "image-builder",
        ],
    ),
    ("qemu-tests", &["bundle", "restore-events", "node-model"]),
    ("xtask", &[]),
];

/// A file longer than this holds two ideas.
const SOURCE_LINES_MAX: usize = 800;

/// Marks of work that nobody will find again.
const MARKS: &[&str] = &["TODO", "FIXME", "todo!(", "unimplemented!(", "#[ignore"];

pub(crate) fn run() -> Result<()> {
    let metadata = command::output(&["cargo", "metadata", "--no-deps", "--format-version", "1"])?;
    let mut findings = arrows(&serde_json::from_str(&metadata).context("cannot read cargo's metadata")?)?;
    let mut pages = Vec::new();
    let (mut faults_page, mut tested) = (String::new(), BTreeMap::new());
    for file in command::output(&["git", "ls-files", "--cached", "--others", "--exclude-standard"])?.lines() {
        let path = command::workspace_root().join(file);
        if !path.is_file() || !(file.ends_with(".rs") || file.ends_with(".md")) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
        if file.ends_with(".rs") {
            findings.extend(source(file, &text));
            // The check of these names is tested on some.
            if file != "xtask/src/tidy/faults.rs" {
                tested.insert(file.to_owned(), faults::tested_in(&text));
            }
            continue;
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        findings.extend(links(file, &text, |target| folder.join(target).exists()));
        if file.starts_with(decisions::FOLDER) {
            pages.push((file.to_owned(), text));
        } else if file == faults::PAGE {
            faults_page = text;
        }
    }
    findings.extend(faults::check(&faults_page, &tested));
    let (index, pages): (Vec<_>, Vec<_>) = pages
        .iter()
        .map(|(file, text)| (file.as_str(), text.as_str()))
        .partition(|(file, _)| *file == decisions::INDEX);
    findings.extend(decisions::check(&pages, index.first().map_or("", |(_, text)| text)));
    if !findings.is_empty() {
        bail!("{}", findings.join("\n"));
    }
    Ok(())
}

/// Dependencies between our crates that [`ARROWS`] does not draw, in what `cargo metadata` says. Those of tests and
/// build scripts count as all others.
fn arrows(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo's metadata lists no packages")?;
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(may) = allowed.get(name) else {
            findings.push(format!("crate `{name}` has no row in xtask's table of arrows"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        for dependency in dependencies.iter().filter_map(|d| d["name"].as_str()) {
            // A crate may name itself to switch on a feature for its own tests.
            if allowed.contains_key(dependency) && dependency != name && !may.contains(&dependency) {
                findings.push(format!("`{name}` may not depend on `{dependency}`"));
            }
        }
    }
    Ok(findings)
}

/// What is wrong with one source file.
fn source(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > SOURCE_LINES_MAX {
        findings.push(format!("{file}: {lines} lines, more than {SOURCE_LINES_MAX}"));
    }
    // This file has to spell the marks it looks for.
    if file != "xtask/src/tidy.rs" {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = MARKS.iter().find(|mark| line.contains(**mark) && !line.contains("issue ")) {
                findings.push(format!("{file}:{}: `{mark}` without an issue", number + 1));
            }
        }
    }
    findings
}

/// Links of a Markdown text to files that are not there.
fn links(file: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") && !exists(target) {
                findings.push(format!("{file}:{}: link to `{target}`, which is not there", number + 1));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Metadata of one crate with these dependencies, each with its kind as cargo writes it.
    fn crate_with(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
        json!({ "packages": [{ "name": name, "dependencies": dependencies }] })
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_found_in_tests_and_build_scripts_too() {
        for kind in [None, Some("dev"), Some("build")] {
            let drawn = crate_with("restore-plan", &[("node-model", kind), ("serde", kind), ("restore-plan", kind)]);
            assert_eq!(arrows(&drawn).unwrap(), [""; 0]);
            let wrong = crate_with("restore-plan", &[("node-model", kind), ("linux-io", kind)]);
            assert_eq!(arrows(&wrong).unwrap(), ["`restore-plan` may not depend on `linux-io`"]);
        }
        let backwards = crate_with("node-model", &[("bundle", None)]);
        assert_eq!(arrows(&backwards).unwrap(), ["`node-model` may not depend on `bundle`"]);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let unknown = crate_with("annex", &[]);
        assert_eq!(arrows(&unknown).unwrap(), ["crate `annex` has no row in xtask's table of arrows"]);
        assert!(arrows(&json!({})).is_err(), "no packages at all is no proof");
    }

    /// What `docs/architecture.md` draws: `NAME, NAME -> NAME, NAME` in its block of arrows.
    fn drawn_in_the_docs() -> BTreeMap<String, Vec<String>> {
        let text = fs::read_to_string(command::workspace_root().join("docs/architecture.md")).unwrap();
        let is_crate = |name: &&str| ARROWS.iter().any(|(known, _)| known == name);
        let mut drawn = BTreeMap::new();
        for (from, to) in text.lines().filter_map(|line| line.split_once("->")) {
            let words = |text: &str| -> Vec<String> {
                text.split([',', ' ', '(', ')', ';', '`']).filter(is_crate).map(str::to_owned).collect()
            };
            for name in words(from) {
                drawn.insert(name, words(to));
            }
        }
        drawn
    }

    #[test]
    fn the_table_is_the_one_that_the_docs_draw() {
        let drawn = drawn_in_the_docs();
        // `node-model` knows nobody and has no line, `rerack` may know anybody.
        for (name, may) in ARROWS.iter().filter(|(name, _)| !["node-model", "rerack"].contains(name)) {
            let mut may: Vec<&str> = may.to_vec();
            let mut drawn: Vec<&str> =
                drawn.get(*name).unwrap_or_else(|| panic!("{name}")).iter().map(String::as_str).collect();
            may.sort_unstable();
            drawn.sort_unstable();
            assert_eq!(drawn, may, "{name}");
        }
    }

    #[test]
    fn a_mark_without_an_issue_is_found_and_one_with_an_issue_is_not() {
        assert_eq!(source("a.rs", "// TODO later"), ["a.rs:1: `TODO` without an issue"]);
        assert!(source("a.rs", "// TODO (issue 7): later").is_empty());
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(source("a.rs", &"x\n".repeat(SOURCE_LINES_MAX)).is_empty());
        assert_eq!(source("a.rs", &"x\n".repeat(SOURCE_LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        let text = "see [there](there.md#part), [web](https://example.org) and [here](#top)";
        assert_eq!(links("a.md", text, |_| false), ["a.md:1: link to `there.md`, which is not there"]);
        assert!(links("a.md", text, |_| true).is_empty());
    }
}
