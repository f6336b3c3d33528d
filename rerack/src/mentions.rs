//! Whatever the sources and the documents say that people can type, they can: every `rerack ...` and every option that
//! is mentioned in a hint or in the guide exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::Arguments;

/// Options in the documents and hints that belong to other programs.
const OF_OTHERS: [&str; 3] = ["--help", "--keep", "--xattrs-include"];

/// A file, and something that stands in it.
type InFile = (PathBuf, String);

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let below = paths.flat_map(|path| match path.is_dir() {
        true => files_below(&path, extension),
        false if path.extension().is_some_and(|found| found == extension) => vec![path],
        false => Vec::new(),
    });
    below.collect()
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(files: Vec<PathBuf>) -> Vec<InFile> {
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The sources of all crates, this file aside.
fn sources() -> Vec<InFile> {
    let crates = fs::read_dir(workspace()).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let files = crates.flat_map(|folder| files_below(&folder, "rs"));
    read(files.filter(|path| !path.ends_with("rerack/src/mentions.rs")).collect())
}

fn documents() -> Vec<InFile> {
    let mut files = files_below(&workspace().join("docs"), "md");
    files.extend(["README.md", "CHANGELOG.md"].map(|name| workspace().join(name)));
    read(files)
}

/// A text as one line: what a comment or a string says may be broken into several.
fn joined(text: &str) -> String {
    let words = |line: &str| {
        let line = line.trim();
        let line = ["///", "//!", "//"].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
        line.trim().trim_end_matches('\\').to_owned()
    };
    text.lines().map(words).collect::<Vec<_>>().join(" ")
}

/// What stands between each `begin` and the `end` next to it.
fn between(text: &str, begin: &str, end: &[char]) -> Vec<String> {
    text.split(begin).skip(1).map(|rest| rest.split(end).next().unwrap_or(rest).to_owned()).collect()
}

/// Whether clap knows the command and the options in `line`, which may lack something or have an ellipsis.
fn is_known(line: &str) -> bool {
    let words = line.split_whitespace().filter(|word| !word.contains('…'));
    let words = words.map(|word| word.trim_matches(['\'', '"', ',', '.']));
    match Arguments::try_parse_from(std::iter::once("rerack").chain(words)) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand),
    }
}

/// Every long option of every command.
fn options() -> BTreeSet<String> {
    fn of(command: &clap::Command) -> Vec<String> {
        let own = command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
        own.chain(command.get_subcommands().flat_map(of)).collect()
    }
    of(&Arguments::command()).into_iter().collect()
}

/// The words in `text` that begin as long options do.
fn option_words(text: &str) -> Vec<&str> {
    let is_end = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let words = text.match_indices("--").filter(|(at, _)| !text[..*at].ends_with(|c: char| !is_end(c)));
    let words = words.map(|(at, _)| text[at..].split(is_end).next().unwrap_or_default());
    words.filter(|word| word.len() > 3 && !word.starts_with("---")).collect()
}

#[test]
fn every_command_that_is_mentioned_exists() {
    let mut mentioned = Vec::new();
    for (path, text) in sources() {
        // In a comment or a message; at the end of one; in the example of a command's help.
        let mut lines = between(&joined(&text), "`rerack ", &['`', '|']);
        lines.extend(between(&text, ": rerack ", &['"', '|', '>', '\n']));
        mentioned.extend(lines.into_iter().map(|line| (path.clone(), line)));
    }
    for (path, text) in documents() {
        let mut lines = between(&joined(&text), "`rerack ", &['`', '|']);
        for block in between(&text, "```sh", &['`']) {
            for line in block.lines().filter(|line| !line.starts_with("cargo ")) {
                lines.extend(between(line, "rerack ", &['|', ';', '&', '#', '>', ')', '$']).into_iter().take(1));
            }
        }
        // What a key is for begins with a date; and `rerack` may be copied somewhere.
        lines.retain(|line| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '-'));
        mentioned.extend(lines.into_iter().map(|line| (path.clone(), line)));
    }
    assert!(mentioned.len() > 80, "they are found: {}", mentioned.len());
    mentioned.retain(|(_, line)| !is_known(line));
    assert!(mentioned.is_empty(), "{mentioned:#?}");
}

#[test]
fn every_option_that_is_mentioned_exists() {
    let mut mentioned: Vec<InFile> = Vec::new();
    for (path, text) in sources() {
        let functions = text.split("fn ");
        let hints = functions.filter(|function| function.split('(').next().is_some_and(|name| name.contains("hint")));
        mentioned.extend(hints.flat_map(option_words).map(|word| (path.clone(), word.to_owned())));
    }
    let own = sources().into_iter().filter(|(path, _)| path.starts_with(env!("CARGO_MANIFEST_DIR")));
    for (path, text) in own.chain(documents()) {
        let words = between(&text, "`--", &['`', ' ', '=', '\n']);
        mentioned.extend(words.into_iter().map(|word| (path.clone(), format!("--{word}"))));
    }
    assert!(mentioned.len() > 25, "they are found: {}", mentioned.len());
    let options = options();
    mentioned.retain(|(_, word)| !options.contains(word) && !OF_OTHERS.contains(&word.as_str()));
    assert!(mentioned.is_empty(), "{mentioned:#?}");
}

#[test]
fn a_command_or_an_option_that_does_not_exist_is_found() {
    assert!(is_known("verify --repair") && is_known("plan web-03 … ") && is_known("node add {node}"));
    assert!(!is_known("verify --mend") && !is_known("forget web-03") && !is_known("node remove web-03"));
    assert_eq!(option_words("with --accept-loss {device}, or `--map`; not x--y or ---"), ["--accept-loss", "--map"]);
}
