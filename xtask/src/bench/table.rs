//! What a bench found, for people and for programs.

use serde_json::{Value, json};

use super::limit::Limit;
use super::measured::{Cost, StageCost};
use super::statistics::Summary;

/// The name under which ours stands.
pub(super) const OURS: &str = "rerack";

/// All turns of one contender.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) turns: Vec<Cost>,
    /// What its time holds besides what everybody's holds.
    pub(super) note: Option<String>,
}

impl Row {
    fn of(&self, pick: impl Fn(&Cost) -> f64) -> Summary {
        Summary::of(self.turns.iter().map(pick)).unwrap_or(Summary { median: 0.0, min: 0.0, max: 0.0 })
    }
}

impl Row {
    /// Each stage with the medians of its costs, in the order of the first turn.
    fn stages(&self) -> Vec<StageCost> {
        let names = self.turns.first().into_iter().flat_map(|cost| &cost.stages).map(|stage| &stage.name);
        let of = |name: &str, pick: fn(&StageCost) -> f64| {
            let stages = self.turns.iter().flat_map(|cost| &cost.stages).filter(|stage| stage.name == name);
            Summary::of(stages.map(pick)).map_or(0.0, |summary| summary.median)
        };
        let median = |name: &String| StageCost {
            name: name.clone(),
            seconds: of(name, |stage| stage.seconds),
            cpu_seconds: of(name, |stage| stage.cpu_seconds),
        };
        names.map(median).collect()
    }

    /// Those of the last turn: they do not depend on the clock.
    fn round_trips(&self) -> Option<(u64, u64)> {
        self.turns.last().and_then(|cost| cost.round_trips)
    }

    fn round_trips_text(&self) -> Option<String> {
        let (until_data, all) = self.round_trips()?;
        Some(format!("{}: {until_data} round trips before the data, {all} in all\n", self.name))
    }

    fn stages_text(&self) -> Option<String> {
        // What was over before the engine began takes no time.
        let shown = self.stages().into_iter().filter(|stage| stage.seconds >= 0.005);
        let stages: Vec<String> = shown
            .map(|StageCost { name, seconds, cpu_seconds }| format!("{name} {seconds:.2} (CPU {cpu_seconds:.2})"))
            .collect();
        (!stages.is_empty()).then(|| format!("{} by stage: {}\n", self.name, stages.join(", ")))
    }
}

/// One bench.
#[derive(Debug, Clone)]
pub(super) struct Report {
    /// `restore` or a turn of `capture`.
    pub(super) what: String,
    pub(super) set: String,
    pub(super) filesystem: &'static str,
    pub(super) files: u64,
    pub(super) content_bytes: u64,
    pub(super) rows: Vec<Row>,
    pub(super) limit: Option<Limit>,
    /// Who did not run, and why.
    pub(super) skipped: Vec<(String, String)>,
}

impl Report {
    /// The median seconds of a contender, if it took part.
    pub(super) fn seconds(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).map(|row| row.of(|cost| cost.seconds).median)
    }

    fn ours(&self) -> Option<f64> {
        self.seconds(OURS)
    }

    /// The table that people read.
    pub(super) fn text(&self) -> String {
        let (files, megabytes) = (self.files, self.content_bytes as f64 / 1e6);
        let turns = self.rows.iter().map(|row| row.turns.len()).max().unwrap_or(0);
        let mut text = format!(
            "{} of {}: {files} files, {megabytes:.0} MB, {}, {turns} turns each\n\n",
            self.what, self.set, self.filesystem
        );
        text.push_str(&format!(
            "{:<11}{:>9}{:>16}{:>8}{:>8}{:>9}{:>9}{:>9}{:>9}\n",
            "", "median s", "min to max", "/ours", "/limit", "CPU s", "server s", "peak MB", "moved MB"
        ));
        for row in &self.rows {
            text.push_str(&self.line(row));
        }
        for row in &self.rows {
            if let Some(read_back) = Summary::of(row.turns.iter().filter_map(|cost| cost.read_back_seconds)) {
                let Summary { median, min, max } = read_back;
                let name = &row.name;
                text.push_str(&format!("{name} then reads all of it back: {median:.2} s ({min:.2} to {max:.2})\n"));
            }
        }
        text.extend(self.rows.iter().filter_map(Row::stages_text));
        text.extend(self.rows.iter().filter_map(Row::round_trips_text));
        if let Some(limit) = &self.limit {
            text.push_str(&format!("{}\n", limit.text()));
        }
        for row in &self.rows {
            if let Some(note) = &row.note {
                text.push_str(&format!("{}: {note}\n", row.name));
            }
        }
        for (name, why) in &self.skipped {
            text.push_str(&format!("{name}: skipped, {why}\n"));
        }
        text
    }

    fn line(&self, row: &Row) -> String {
        let time = row.of(|cost| cost.seconds);
        let ratio = |to: Option<f64>| match to {
            Some(to) if to > 0.0 => format!("{:.2}", time.median / to),
            _ => "-".to_owned(),
        };
        let or_dash = |value: f64, shown: String| if value > 0.0 { shown } else { "-".to_owned() };
        let server = row.of(|cost| cost.server_cpu_seconds).median;
        let moved = row.of(|cost| cost.moved_bytes as f64 / 1e6).median;
        format!(
            "{:<11}{:>9.2}{:>16}{:>8}{:>8}{:>9.2}{:>9}{:>9.0}{:>9}\n",
            row.name,
            time.median,
            format!("{:.2} to {:.2}", time.min, time.max),
            ratio(self.ours()),
            ratio(self.limit.map(|limit| limit.binding().0)),
            row.of(|cost| cost.cpu_seconds).median,
            or_dash(server, format!("{server:.2}")),
            row.of(|cost| cost.peak_bytes as f64 / 1e6).median,
            or_dash(moved, format!("{moved:.0}")),
        )
    }

    /// The same for programs.
    pub(super) fn as_json(&self) -> Value {
        let (ours, limit) = (self.ours(), self.limit.map(|limit| limit.binding().0));
        let over = |value: f64, to: Option<f64>| to.filter(|to| *to > 0.0).map(|to| value / to);
        let stage = |stage: &StageCost| json!({ "name": stage.name, "seconds": stage.seconds, "cpu_seconds": stage.cpu_seconds });
        let row = |row: &Row| {
            let time = row.of(|cost| cost.seconds);
            json!({
                "name": row.name, "seconds": { "median": time.median, "min": time.min, "max": time.max },
                "turns_seconds": row.turns.iter().map(|cost| cost.seconds).collect::<Vec<_>>(),
                "ratio_to_ours": over(time.median, ours), "ratio_to_limit": over(time.median, limit),
                "cpu_seconds": row.of(|cost| cost.cpu_seconds).median,
                "server_cpu_seconds": row.of(|cost| cost.server_cpu_seconds).median,
                "peak_bytes": row.of(|cost| cost.peak_bytes as f64).median as u64,
                "moved_bytes": row.of(|cost| cost.moved_bytes as f64).median as u64,
                "read_back_seconds":
                    Summary::of(row.turns.iter().filter_map(|cost| cost.read_back_seconds)).map(|s| s.median),
                "stages": row.stages().iter().map(stage).collect::<Vec<_>>(),
                "round_trips": row.round_trips().map(|(until_data, all)| json!({ "until_data": until_data, "all": all })),
                "note": row.note,
            })
        };
        let skipped = |(name, why): &(String, String)| json!({ "name": name, "why": why });
        json!({
            "bench": self.what, "set": self.set, "filesystem": self.filesystem, "file_count": self.files,
            "content_bytes": self.content_bytes, "contenders": self.rows.iter().map(row).collect::<Vec<_>>(),
            "limit": self.limit.map(|limit| limit.as_json()),
            "skipped": self.skipped.iter().map(skipped).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, seconds: &[f64]) -> Row {
        let turns = seconds.iter().map(|seconds| Cost {
            seconds: *seconds,
            cpu_seconds: 2.0,
            peak_bytes: 64_000_000,
            ..Cost::default()
        });
        Row { name: name.to_owned(), turns: turns.collect(), note: None }
    }

    fn report() -> Report {
        let mut ours = row(OURS, &[2.0, 3.0, 2.5]);
        ours.turns.iter_mut().for_each(|cost| {
            (cost.server_cpu_seconds, cost.moved_bytes, cost.read_back_seconds) = (0.5, 300_000_000, Some(1.25));
            cost.round_trips = Some((12, 30));
            let data = StageCost { name: "data".to_owned(), seconds: cost.seconds - 1.0, cpu_seconds: 0.5 };
            cost.stages = vec![data];
        });
        Report {
            what: "restore".to_owned(),
            set: "small-files-5000".to_owned(),
            filesystem: "ext4",
            files: 5000,
            content_bytes: 20_480_000,
            rows: vec![ours, row("tar", &[5.0, 6.0, 5.5])],
            limit: Some(Limit { device: 2.0, cores: 2.0, ..Limit::default() }),
            skipped: vec![("borg".to_owned(), "it is not there".to_owned())],
        }
    }

    #[test]
    fn the_table_is_read_from_left_to_right() {
        let text = report().text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "restore of small-files-5000: 5000 files, 20 MB, ext4, 3 turns each");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[3]).join(" "), "rerack 2.50 2.00 to 3.00 1.00 1.25 2.00 0.50 64 300");
        assert_eq!(words(lines[4]).join(" "), "tar 5.50 5.00 to 6.00 2.20 2.75 2.00 - 64 -");
        assert_eq!(lines[5], "rerack then reads all of it back: 1.25 s (1.25 to 1.25)");
        assert_eq!(lines[6], "rerack by stage: data 1.50 (CPU 0.50)");
        assert_eq!(lines[7], "rerack: 12 round trips before the data, 30 in all");
        assert!(lines[8].starts_with("limit 2.00 s, set by: device"), "{text}");
        assert_eq!(lines[9], "borg: skipped, it is not there");
        assert!(lines[2..5].iter().all(|line| line.len() == lines[2].len()), "columns:\n{text}");
    }

    #[test]
    fn programs_read_the_same() {
        let json = report().as_json();
        assert_eq!(json["contenders"][1]["ratio_to_ours"], 2.2);
        assert_eq!(json["contenders"][0]["seconds"]["max"], 3.0);
        assert_eq!(json["limit"]["bound_by"], "device");
        assert_eq!(json["skipped"][0]["name"], "borg");
    }
}
