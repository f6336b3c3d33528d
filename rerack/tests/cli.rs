//! How the command line looks, and how it answers to what it cannot use.

use std::process::Command;

use assert_cmd::assert::OutputAssertExt;

fn rerack(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rerack"));
    // The terminal's width, and what is set by those who use the command, must not show in the help.
    command.args(arguments).env("COLUMNS", "100").env_remove("RERACK_DIR").env_remove("RERACK_LOG");
    command
}

fn output(arguments: &[&str]) -> String {
    let output = rerack(arguments).assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

/// All commands, with those below them.
const COMMANDS: [&[&str]; 19] = [
    &[],
    &["capture"],
    &["serve"],
    &["node"],
    &["node", "add"],
    &["arm"],
    &["disarm"],
    &["arms"],
    &["list"],
    &["verify"],
    &["export"],
    &["inventory"],
    &["plan"],
    &["restore"],
    &["compare"],
    &["image"],
    &["image", "iso"],
    &["completions"],
    &["man"],
];

#[test]
fn the_help_of_every_command_is_as_it_was_read() {
    for command in COMMANDS {
        let arguments = [command, &["--help"]].concat();
        let name = if command.is_empty() { "help".to_owned() } else { format!("help-{}", command.join("-")) };
        insta::assert_snapshot!(name, output(&arguments));
    }
}

#[test]
fn no_command_is_missing_here() {
    let help = output(&["-h"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.map(|line| line.split_whitespace().next().unwrap());
    for name in names.filter(|name| *name != "help") {
        assert!(COMMANDS.contains(&&[name][..]), "the help of `{name}` is not looked at");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let wrong: [&[&str]; 9] = [
        &[],
        &["frobnicate"],
        &["restore"],
        &["restore", "web-03", "--dir", "repo"],
        &["restore", "Not A Name", "--dir", "repo", "--target", "new.img"],
        &["restore", "web-03", "--dir", "repo", "--target", "new.img", "--sector-size", "520"],
        &["arm", "web-03", "--dir", "repo", "--valid", "1y"],
        &["plan", "web-03", "--dir", "repo"],
        &["plan", "web-03", "--dir", "repo", "--inventory", "a.json", "--target", "new.img"],
    ];
    for arguments in wrong {
        let assert = rerack(arguments).assert().code(2);
        assert!(!assert.get_output().stderr.is_empty(), "{arguments:?} says what is wrong");
    }
}

#[test]
fn the_inventory_can_be_read_by_programs() {
    let output = rerack(&["inventory", "--json"]).output().unwrap();
    if !output.status.success() {
        eprintln!("skipped: this host does not show itself: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let inventory: node_model::Inventory = serde_json::from_slice(&output.stdout).unwrap();
    assert!(inventory.hardware.memory_bytes.get() > 0);
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completions", shell]);
        for command in COMMANDS.iter().filter(|command| command.len() == 1) {
            assert!(script.contains(command[0]), "{shell} does not know `{}`", command[0]);
        }
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    output(&["man", directory.path().to_str().unwrap()]);
    for command in COMMANDS.iter() {
        let page = directory.path().join(format!("{}.1", [&["rerack"], *command].concat().join("-")));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(text.contains(".SH NAME"), "{}", page.display());
    }
}
