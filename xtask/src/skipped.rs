//! What a run left out, and why. A part that passes because it could not run is named at the end.

use std::collections::BTreeMap;

/// Names listed for one reason; the others are counted.
const NAMED_MAX: usize = 3;

/// What was left out, by reason.
#[derive(Debug, Default)]
pub(crate) struct Skipped(BTreeMap<String, Vec<String>>);

impl Skipped {
    /// Notes that `what` was left out.
    pub(crate) fn add(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.0.entry(why.into()).or_default().push(what.into());
    }

    /// Notes the tests that say so in a report of nextest's: a line of their output begins with `skipped: `.
    pub(crate) fn add_tests(&mut self, junit: &str) {
        let mut test = String::new();
        for line in junit.lines().map(str::trim_start) {
            if let Some(attributes) = line.strip_prefix("<testcase ") {
                let value = |name: &str| attributes.split_once(&format!("{name}=\""))?.1.split('"').next();
                test = [value("classname"), value(" name").or_else(|| value("name"))]
                    .map(Option::unwrap_or_default)
                    .join(" ");
            }
            let line = ["<system-out>", "<system-err>"].iter().find_map(|tag| line.strip_prefix(tag)).unwrap_or(line);
            if let Some(why) = line.strip_prefix("skipped: ") {
                self.add(&test, unescaped(why.split("</system-").next().unwrap_or(why)));
            }
        }
    }

    /// Notes a scenario, if `line` says that one was skipped.
    pub(crate) fn add_scenario(&mut self, line: &str) {
        if let Some((name, why)) = line.strip_prefix("skipped ").and_then(|rest| rest.split_once(' ')) {
            self.add(format!("scenario {name}"), why.trim());
        }
    }

    /// A line for each reason.
    pub(crate) fn render(&self) -> String {
        if self.0.is_empty() {
            return "nothing was skipped\n".to_owned();
        }
        let line = |(why, what): (&String, &Vec<String>)| {
            let named = what.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            match what.len().saturating_sub(NAMED_MAX) {
                0 => format!("{named} skipped: {why}\n"),
                more => format!("{named} and {more} more skipped: {why}\n"),
            }
        };
        self.0.iter().map(line).collect()
    }
}

/// XML's text as it was before.
fn unescaped(text: &str) -> String {
    let known = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    known.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_say_so_are_named_with_their_reason() {
        let junit = r#"
            <testsuite name="linux-io::root_net" tests="3" skipped="0" errors="0" failures="0">
                <testcase name="one" classname="linux-io::root_net" timestamp="2026-11-21T11:07:17.205+00:00" time="0.078">
                    <system-out>
running 1 test
skipped: this machine has no [&quot;xfs&quot;]
test one ... ok

</system-out>
                    <system-err>what was not skipped: the rest
</system-err>
                </testcase>
                <testcase name="two" classname="linux-io::root_net" timestamp="2026-11-21T11:07:17.284+00:00" time="0.049">
                    <system-out></system-out>
                    <system-err>skipped: loop devices need root</system-err>
                </testcase>
                <testcase name="three" classname="linux-io::root_net" timestamp="2026-11-21T11:07:17.284+00:00" time="0.049">
                </testcase>
            </testsuite>"#;
        let mut skipped = Skipped::default();
        skipped.add_tests(junit);
        assert_eq!(
            skipped.render(),
            "linux-io::root_net two skipped: loop devices need root\n\
             linux-io::root_net one skipped: this machine has no [\"xfs\"]\n"
        );
    }

    #[test]
    fn scenarios_are_known_by_the_line_that_the_framework_prints() {
        let mut skipped = Skipped::default();
        let printed = [
            "ok      devices    12.0 s",
            "skipped iso-as-disk              xorriso is not installed",
            "1 passed, 0 failed, 1 skipped",
        ];
        printed.iter().for_each(|line| skipped.add_scenario(line));
        assert_eq!(skipped.render(), "scenario iso-as-disk skipped: xorriso is not installed\n");
    }

    #[test]
    fn many_of_one_reason_are_counted() {
        let mut skipped = Skipped::default();
        assert_eq!(skipped.render(), "nothing was skipped\n");
        ["a", "b", "c", "d", "e"].iter().for_each(|what| skipped.add(*what, "loop devices need root"));
        skipped.add("ring three", "not root");
        assert_eq!(
            skipped.render(),
            "a, b, c and 2 more skipped: loop devices need root\nring three skipped: not root\n"
        );
    }
}
