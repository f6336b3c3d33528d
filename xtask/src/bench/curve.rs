//! `cargo xtask bench curve`: how time grows with bytes and with files, and how speed depends on the size of files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Place;
use super::disk::Filesystem;
use super::link::Link;
use super::peers::Peer;
use super::plot::{Plot, Series, Unit};
use super::restore::Bench;
use super::sets::{Set, Source};
use super::table::{OURS, Report};
use crate::{command, programs};

/// Where the plots go.
const FOLDER: &str = "docs/performance";
/// Content of each point of the curve by size, at most.
const CURVE_BYTES: u64 = 512 << 20;
/// Files of each point, at most: fewer bytes, then.
const CURVE_FILES_MAX: u64 = 40_000;
/// The name of the line that nobody can be above.
const LIMIT: &str = "limit";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// On which filesystem.
    #[arg(long, value_enum, default_value = "ext4")]
    filesystem: Filesystem,
    /// Whom to compare with, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tar,rsync")]
    peers: Vec<Peer>,
    /// How many turns each contender has at each point.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only this part of the files, to try the bench out.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    divisor: u64,
    /// Take our programs from this directory instead of building those that ship.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where to put the plots.
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One plot: what is varied, and what is shown.
struct Curve {
    file: &'static str,
    title: &'static str,
    x_label: &'static str,
    x_unit: Unit,
    y_label: &'static str,
    sets: Vec<(f64, Set)>,
    shown: fn(seconds: f64, content_bytes: u64) -> f64,
}

fn seconds(seconds: f64, _: u64) -> f64 {
    seconds
}

fn megabytes_per_second(seconds: f64, content_bytes: u64) -> f64 {
    content_bytes as f64 / 1e6 / seconds
}

fn curves(divisor: u64) -> [Curve; 3] {
    let part = |files: u64| (files / divisor).max(1);
    let of_size = |bytes: u64| (bytes as f64, Set::uniform(part((CURVE_BYTES / bytes).min(CURVE_FILES_MAX)), bytes));
    let files_of = |bytes: u64| move |files: u64| (part(files), bytes);
    let by_files = [10_000, 20_000, 40_000, 80_000, 160_000].map(files_of(4 << 10));
    let by_bytes = [64, 128, 256, 512, 1024].map(files_of(1 << 20));
    [
        Curve {
            file: "speed-by-size.svg",
            title: "Restoring files of one size: the higher the better",
            x_label: "bytes of each file",
            x_unit: Unit::Bytes,
            y_label: "MB/s",
            sets: [10, 12, 14, 16, 18, 20, 22].map(|power| of_size(1 << power)).into(),
            shown: megabytes_per_second,
        },
        Curve {
            file: "time-by-files.svg",
            title: "Restoring files of 4 KiB: the lower the better",
            x_label: "files",
            x_unit: Unit::Plain,
            y_label: "seconds",
            sets: by_files.map(|(files, bytes)| (files as f64, Set::uniform(files, bytes))).into(),
            shown: seconds,
        },
        Curve {
            file: "time-by-bytes.svg",
            title: "Restoring files of 1 MiB: the lower the better",
            x_label: "bytes in all",
            x_unit: Unit::Bytes,
            y_label: "seconds",
            sets: by_bytes.map(|(files, bytes)| ((files * bytes) as f64, Set::uniform(files, bytes))).into(),
            shown: seconds,
        },
    ]
}

pub(super) fn run(options: &Options) -> Result<()> {
    let programs = match &options.programs {
        Some(directory) => directory.canonicalize().with_context(|| format!("no {}", directory.display()))?,
        None => programs::build()?,
    };
    for peer in &options.peers {
        peer.ensure()?;
    }
    let output = command::workspace_root().join(&options.output);
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let place = Place::new(false)?;
    let mut all = Vec::new();
    for curve in curves(options.divisor) {
        let reports = measure(&curve, options, &place, &programs)?;
        let plot = curve.plot(&reports);
        let file = output.join(curve.file);
        std::fs::write(&file, plot.svg()).with_context(|| format!("cannot write {}", file.display()))?;
        if !options.json {
            print!("{}", table(&plot));
        }
        all.push(json!({
            "plot": curve.file,
            "points": reports.iter().map(|(x, report)| json!({ "x": x, "report": report.as_json() })).collect::<Vec<_>>(),
        }));
    }
    if options.json {
        println!("{:#}", Value::from(all));
    }
    Ok(())
}

fn measure(curve: &Curve, options: &Options, place: &Place, programs: &Path) -> Result<Vec<(f64, Report)>> {
    let link = Link::new(None, 0)?;
    let mut reports = Vec::new();
    for (x, set) in &curve.sets {
        let sets = place.run.join("sets");
        let source = Source::prepare(set, options.filesystem, &sets)?;
        let bench = Bench { place, source: &source, programs, link: &link };
        let report = bench.run(&options.peers, Vec::new(), options.rounds)?;
        reports.push((*x, report));
        // The next point needs the room.
        std::fs::remove_dir_all(&sets).with_context(|| format!("cannot remove {}", sets.display()))?;
    }
    Ok(reports)
}

impl Curve {
    fn plot(&self, reports: &[(f64, Report)]) -> Plot {
        let mut names: Vec<&str> = vec![OURS];
        for row in reports.iter().flat_map(|(_, report)| &report.rows) {
            if !names.contains(&row.name.as_str()) {
                names.push(&row.name);
            }
        }
        let line = |name: &str, seconds: &dyn Fn(&Report) -> Option<f64>| Series {
            name: name.to_owned(),
            points: reports
                .iter()
                .filter_map(|(x, report)| Some((*x, (self.shown)(seconds(report)?, report.content_bytes))))
                .collect(),
            is_bound: name == LIMIT,
        };
        let mut series: Vec<Series> =
            names.iter().map(|name| line(name, &|report: &Report| report.seconds(name))).collect();
        series.push(line(LIMIT, &|report| report.limit.map(|limit| limit.binding().0)));
        let (title, x_label, y_label) = (self.title.to_owned(), self.x_label, self.y_label);
        Plot { title, x_label, x_unit: self.x_unit, y_label, series }
    }
}

/// The same in figures.
fn table(plot: &Plot) -> String {
    let mut text = format!("{} ({})\n{:>16}", plot.title, plot.y_label, plot.x_label);
    plot.series.iter().for_each(|series| text.push_str(&format!("{:>11}", series.name)));
    text.push('\n');
    for (x, _) in plot.series.iter().max_by_key(|series| series.points.len()).map_or(&[][..], |longest| &longest.points)
    {
        text.push_str(&format!("{:>16}", plot.x_unit.write(*x)));
        for series in &plot.series {
            let value = series.points.iter().find(|(other, _)| other == x);
            text.push_str(&value.map_or_else(|| format!("{:>11}", "-"), |(_, y)| format!("{y:>11.2}")));
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::limit::Limit;
    use crate::bench::measured::Cost;
    use crate::bench::table::Row;

    fn report(ours: f64, tar: Option<f64>) -> Report {
        let row = |name: &str, seconds| Row {
            name: name.to_owned(),
            turns: vec![Cost { seconds, ..Cost::default() }],
            note: None,
        };
        Report {
            what: "restore".to_owned(),
            set: "some".to_owned(),
            filesystem: "ext4",
            files: 1,
            content_bytes: 100_000_000,
            rows: std::iter::once(row(OURS, ours)).chain(tar.map(|tar| row("tar", tar))).collect(),
            limit: Some(Limit { device: 0.5, cores: 2.0, ..Limit::default() }),
            skipped: Vec::new(),
        }
    }

    #[test]
    fn a_curve_shows_everybody_and_the_limit() {
        let curve = &curves(1)[0];
        let plot = curve.plot(&[(1024.0, report(2.0, Some(4.0))), (4096.0, report(1.0, None))]);
        let lines: Vec<(&str, &[(f64, f64)])> =
            plot.series.iter().map(|series| (series.name.as_str(), &series.points[..])).collect();
        assert_eq!(lines[0], (OURS, &[(1024.0, 50.0), (4096.0, 100.0)][..]));
        assert_eq!(lines[1], ("tar", &[(1024.0, 25.0)][..]));
        assert_eq!(lines[2], (LIMIT, &[(1024.0, 200.0), (4096.0, 200.0)][..]));
        let text = table(&plot);
        assert!(text.contains("4 KiB     100.00          -     200.00"), "{text}");
    }

    #[test]
    fn no_point_is_larger_than_a_bench_machine() {
        for (_, set) in curves(1).iter().flat_map(|curve| &curve.sets) {
            let Set::Uniform { files, bytes, .. } = set else { panic!("{set:?}") };
            assert!(files * bytes <= 1 << 30 && *files <= 160_000, "{set:?}");
        }
    }
}
