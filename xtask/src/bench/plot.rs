//! Plots as SVG, drawn by hand: lines over two logarithmic axes, small enough to lie in the docs and to be compared.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Colours that differ for the colour-blind as well (Okabe and Ito), ours first.
const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666"];

/// How the numbers of an axis are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// In powers of 1024.
    Bytes,
    /// As they are.
    Plain,
}

/// A plot.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x_label: &'static str,
    pub(super) x_unit: Unit,
    pub(super) y_label: &'static str,
    pub(super) series: Vec<Series>,
}

/// A line with its name.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    /// Both coordinates are above zero.
    pub(super) points: Vec<(f64, f64)>,
    /// Whether it is a bound, drawn dashed, and not somebody who took part.
    pub(super) is_bound: bool,
}

/// A logarithmic axis from `low` to `high` on paper from `from` to `to`.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that begins and ends at a power of ten below and above all values.
    fn around(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        let (low, high) = if low.is_finite() && high > 0.0 { (low, high) } else { (1.0, 10.0) };
        let (low, high) = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()));
        Self { low, high: if high > low { high } else { low * 10.0 }, from, to }
    }

    /// An axis that begins and ends with its values.
    fn between(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
        if low < high { Self { low, high, from, to } } else { Self { low: 1.0, high: 10.0, from, to } }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value / self.low).ln() / (self.high / self.low).ln()
    }

    /// 1, 2 and 5 times the powers of ten.
    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        let mut decade = self.low;
        while decade <= self.high * 1.001 {
            ticks.extend([1.0, 2.0, 5.0].map(|step| step * decade).into_iter().filter(|at| *at <= self.high * 1.001));
            decade *= 10.0;
        }
        ticks
    }
}

impl Plot {
    /// The plot as a file.
    pub(super) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let x = Axis::between(points().map(|(x, _)| *x), LEFT, WIDTH - RIGHT);
        let y = Axis::around(points().map(|(_, y)| *y), HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
        );
        let mut text = |at: (f64, f64), anchor: &str, words: &str| {
            let words = escape(words);
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>", at.0, at.1);
        };
        text((LEFT, TOP - 18.0), "start", &self.title);
        text(((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0), "middle", self.x_label);
        text((8.0, TOP - 18.0), "start", self.y_label);
        for tick in y.ticks() {
            text((LEFT - 6.0, y.place(tick) + 4.0), "end", &plain(tick));
        }
        for tick in self.x_ticks() {
            text((x.place(tick), HEIGHT - BOTTOM + 18.0), "middle", &self.x_unit.write(tick));
        }
        for tick in y.ticks() {
            let (at, end) = (y.place(tick), WIDTH - RIGHT);
            let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#ddd\"/>");
        }
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let place = |(px, py): &(f64, f64)| format!("{:.1},{:.1}", x.place(*px), y.place(*py));
            let line: Vec<String> = series.points.iter().map(place).collect();
            let line = line.join(" ");
            let dashes = if series.is_bound { " stroke-dasharray=\"6 4\"" } else { "" };
            let stroke = format!("stroke=\"{colour}\" stroke-width=\"2\"{dashes}");
            let _ = writeln!(svg, "<polyline points=\"{line}\" fill=\"none\" {stroke}/>");
            for (px, py) in &series.points {
                let (cx, cy) = (x.place(*px), y.place(*py));
                let _ = writeln!(svg, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
        }
        for ((name, at), colour) in self.names(&y).into_iter().zip(COLOURS.iter().cycle()) {
            let (left, name) = (WIDTH - RIGHT + 10.0, escape(name));
            let _ = writeln!(svg, "<text x=\"{left}\" y=\"{at:.1}\" fill=\"{colour}\">{name}</text>");
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Each line's name beside its end, moved down where it would cover the one above.
    fn names(&self, y: &Axis) -> Vec<(&str, f64)> {
        const LINE: f64 = 14.0;
        let end = |series: &Series| series.points.last().map_or(TOP, |(_, value)| y.place(*value)) + 4.0;
        let mut names: Vec<(usize, &str, f64)> = self
            .series
            .iter()
            .enumerate()
            .map(|(number, series)| (number, series.name.as_str(), end(series)))
            .collect();
        names.sort_by(|one, other| one.2.total_cmp(&other.2));
        for below in 1..names.len() {
            names[below].2 = names[below].2.max(names[below - 1].2 + LINE);
        }
        names.sort_by_key(|(number, ..)| *number);
        names.into_iter().map(|(_, name, at)| (name, at)).collect()
    }

    /// The values that were measured.
    fn x_ticks(&self) -> Vec<f64> {
        let mut ticks: Vec<f64> = self.series.iter().flat_map(|series| series.points.iter()).map(|(x, _)| *x).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        ticks
    }
}

impl Unit {
    /// A number of the axis.
    pub(super) fn write(self, value: f64) -> String {
        match self {
            Self::Plain => plain(value),
            Self::Bytes => {
                let steps = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
                let step = steps.into_iter().find(|(step, _)| value >= *step as f64);
                step.map_or_else(|| plain(value), |(step, name)| format!("{} {name}", plain(value / step as f64)))
            }
        }
    }
}

fn plain(value: f64) -> String {
    if value >= 10_000.0 && value % 1000.0 == 0.0 {
        format!("{}k", value / 1000.0)
    } else {
        format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        let series = |name: &str, factor: f64| Series {
            name: name.to_owned(),
            points: [1024.0f64, 4096.0, 1_048_576.0].into_iter().map(|x| (x, x.sqrt() * factor)).collect(),
            is_bound: name == "tar",
        };
        Plot {
            title: "Speed & size".to_owned(),
            x_label: "bytes of a file",
            x_unit: Unit::Bytes,
            y_label: "MB/s",
            series: vec![series("rerack", 1.0), series("tar", 0.99)],
        }
    }

    #[test]
    fn what_was_measured_is_named_and_drawn_inside() {
        let svg = plot().svg();
        for words in ["Speed &amp; size", ">1 KiB<", ">4 KiB<", ">1 MiB<", ">rerack<", ">tar<", "bytes of a file"] {
            assert!(svg.contains(words), "{words} in {svg}");
        }
        assert_eq!((svg.matches("<circle").count(), svg.matches("stroke-dasharray").count()), (6, 1));
        let inside = |name: &str, most: f64| {
            let mark = format!(" {name}=\"");
            let mut values =
                svg.split(&mark).skip(1).map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap());
            values.all(|at| at >= 0.0 && at <= most)
        };
        assert!(inside("cx", WIDTH) && inside("cy", HEIGHT), "{svg}");
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let plot = plot();
        let names = plot.names(&Axis::around([30.0, 1100.0].into_iter(), HEIGHT - BOTTOM, TOP));
        assert!((names[0].1 - names[1].1).abs() >= 14.0, "{names:?}");
    }

    #[test]
    fn an_axis_has_the_ends_of_its_values() {
        let axis = Axis::between([1.0, 100.0].into_iter(), 0.0, 10.0);
        assert_eq!((axis.place(1.0), axis.place(10.0), axis.place(100.0)), (0.0, 5.0, 10.0));
        assert_eq!(Axis::around([3.0, 40.0].into_iter(), 0.0, 1.0).ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn a_plot_of_nothing_is_a_plot() {
        let nothing = Plot { series: Vec::new(), ..plot() };
        assert!(!nothing.svg().contains("NaN"));
    }
}
