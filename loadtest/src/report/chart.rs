//! Charts as SVG text, drawn by plotters, for the report and the README.
//!
//! Knows numbers and names, nothing of measurements.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels of a chart.
const SIZE: (u32, u32) = (760, 380);

/// Pixels to the right of a chart with several lines.
const LEGEND_WIDTH: u32 = 180;

/// A logarithmic axis with at most this many decades also has labels within them.
const DECADES_DIVIDED_MAX: i32 = 2;

const TEXT: RGBColor = RGBColor(0x33, 0x3a, 0x45);
const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
const MARK: RGBColor = RGBColor(0xb0, 0x1e, 0x2e);

/// Distinguishable with the usual kinds of colour blindness (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];

/// One line of a chart.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
}

/// Titles and scales of a chart.
pub struct Axes {
    /// Title above the chart.
    pub title: String,
    /// Label below it.
    pub x: String,
    /// Label to its left.
    pub y: String,
    /// Logarithmic axes, for values over several decades.
    pub x_log: bool,
    /// See [`Axes::x_log`].
    pub y_log: bool,
    /// The x axis is a [`percentile_place`] and is labelled with percentiles.
    pub x_percentiles: bool,
    /// A moment on the x axis, and what happened then.
    pub mark: Option<(f64, String)>,
}

/// The position of a quantile below 1 on an axis of percentiles: 2 for the median, 10 for p90, 100 for p99. On
/// a logarithmic axis each further nine then takes the same width.
pub fn percentile_place(quantile: f64) -> f64 {
    1.0 / (1.0 - quantile)
}

impl Axes {
    /// Linear axes.
    pub fn linear(title: &str, x: &str, y: &str) -> Axes {
        Axes {
            title: title.into(),
            x: x.into(),
            y: y.into(),
            x_log: false,
            y_log: false,
            x_percentiles: false,
            mark: None,
        }
    }

    /// The same with a moment marked.
    #[must_use]
    pub fn with_mark(self, mark: Option<(f64, String)>) -> Axes {
        Axes { mark, ..self }
    }

    /// The same with a logarithmic y axis.
    #[must_use]
    pub fn with_y_log(self) -> Axes {
        Axes {
            y_log: true,
            ..self
        }
    }

    /// The same with a logarithmic x axis.
    #[must_use]
    pub fn with_x_log(self) -> Axes {
        Axes {
            x_log: true,
            ..self
        }
    }

    /// The same with a logarithmic x axis of percentiles.
    #[must_use]
    pub fn with_x_percentiles(self) -> Axes {
        Axes {
            x_percentiles: true,
            ..self.with_x_log()
        }
    }
}

/// A line chart; empty without points.
pub fn lines(axes: &Axes, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let marked = axes.mark.iter().map(|mark| mark.0);
    let x = Scale {
        percentiles: axes.x_percentiles,
        ..Scale::around(points().map(|point| point.0).chain(marked), axes.x_log)
    };
    let y = Scale::around(points().map(|point| point.1), axes.y_log);
    let mut svg = String::new();
    draw_lines(&mut svg, axes, lines, x, y).unwrap_or_else(|error| {
        // Drawing into memory fails only on figures that cannot be drawn.
        svg = format!("<p>no chart: {error}</p>");
    });
    svg
}

type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw_lines(svg: &mut String, axes: &Axes, lines: &[Line], x: Scale, y: Scale) -> DrawResult {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&axes.title, ("sans-serif", 18, &TEXT))
        .margin(12)
        .margin_right(if lines.len() > 1 { LEGEND_WIDTH } else { 30 })
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(&axes.x)
        .y_desc(&axes.y)
        .axis_style(GRID)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 13, &TEXT))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        let points = line
            .points
            .iter()
            .map(|&(px, py)| (x.floor(px), y.floor(py)));
        chart.draw_series(LineSeries::new(points, style))?;
    }
    if let Some((at, text)) = &axes.mark {
        let style = MARK.stroke_width(1);
        let line = [(*at, y.from), (*at, y.to)];
        chart.draw_series(DashedLineSeries::new(line, 5, 4, style))?;
        // The label stands to the left of its mark, where the chart has room.
        let anchor = Pos::new(HPos::Right, VPos::Top);
        let font = ("sans-serif", 13).into_font().color(&MARK).pos(anchor);
        let label = EmptyElement::at((*at, y.to)) + Text::new(format!("{text} "), (-4, 4), font);
        chart.draw_series(std::iter::once(label))?;
    }
    if lines.len() > 1 {
        draw_legend(&root, lines)?;
    }
    root.present()?;
    Ok(())
}

/// The legend stands to the right of the chart, where it hides no line.
fn draw_legend(root: &DrawingArea<SVGBackend<'_>, Shift>, lines: &[Line]) -> DrawResult {
    const PITCH: i32 = 20;
    let left = (SIZE.0 - LEGEND_WIDTH) as i32 + 12;
    for (at, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let middle = 56 + PITCH * at as i32;
        let sample = [(left, middle), (left + 18, middle)];
        root.draw(&PathElement::new(sample, colour.stroke_width(2)))?;
        let font = ("sans-serif", 13).into_font().color(&TEXT);
        let font = font.pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(line.name.clone(), (left + 24, middle), font))?;
    }
    Ok(())
}

/// One bar of a chart.
pub struct Bar {
    /// Label to its left.
    pub name: String,
    /// Its length, and the figure to its right.
    pub value: f64,
}

/// A chart of horizontal bars, each with its figure beside it. The axis is linear from zero, so that lengths
/// are in proportion to figures.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    let mut svg = String::new();
    draw_bars(&mut svg, title, bars).unwrap_or_else(|error| {
        svg = format!("<p>no chart: {error}</p>");
    });
    svg
}

fn draw_bars(svg: &mut String, title: &str, bars: &[Bar]) -> DrawResult {
    const THICKNESS: i32 = 26;
    const PITCH: i32 = 36;
    const LEFT: i32 = 100;
    const TOP: i32 = 48;
    const RIGHT: i32 = 90;
    let style = |size: i32| ("sans-serif", size).into_font().color(&TEXT);
    let height = TOP + PITCH * bars.len() as i32 + 8;
    let root = SVGBackend::with_string(svg, (SIZE.0, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title.to_owned(), (12, 14), style(18)))?;
    let highest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let width = f64::from(SIZE.0 as i32 - LEFT - RIGHT);
    for (at, (bar, colour)) in bars.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let top = TOP + PITCH * at as i32;
        let share = if highest > 0.0 {
            bar.value / highest
        } else {
            0.0
        };
        let right = LEFT + ((width * share) as i32).max(1);
        root.draw(&Rectangle::new(
            [(LEFT, top), (right, top + THICKNESS)],
            colour.filled(),
        ))?;
        root.draw(&Text::new(bar.name.clone(), (12, top + 7), style(14)))?;
        root.draw(&Text::new(
            short(bar.value),
            (right + 8, top + 7),
            style(14),
        ))?;
    }
    root.present()?;
    Ok(())
}

/// A number in the notation of axes: three digits and a suffix.
pub fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = match scaled.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{scaled:.0}"),
        size if size >= 10.0 => format!("{scaled:.1}"),
        size if size >= 0.1 => format!("{scaled:.2}"),
        _ => format!("{scaled:.4}"),
    };
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{suffix}")
}

/// A linear axis, or a logarithmic one over positive numbers.
#[derive(Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
    log: bool,
    /// Labelled with percentiles; see [`percentile_place`].
    percentiles: bool,
}

impl Scale {
    /// An axis that shows all of `values`: whole decades when logarithmic, from zero otherwise.
    fn around(values: impl Iterator<Item = f64>, log: bool) -> Scale {
        let usable = values.filter(|value| value.is_finite() && (!log || *value > 0.0));
        let (low, high) = usable.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > high {
            return Scale {
                from: 1.0,
                to: 10.0,
                log,
                percentiles: false,
            };
        }
        if log {
            // Rounding errors: a value just above a power of ten counts as that power.
            let to = 10_f64.powf((high.log10() - 1e-6).ceil());
            let from = 10_f64.powf((low.log10() + 1e-6).floor());
            return Scale {
                from,
                to: if to > from { to } else { from * 10.0 },
                log,
                percentiles: false,
            };
        }
        let from = low.min(0.0);
        let to = if high > from {
            high + (high - from) * 0.05
        } else {
            from + 1.0
        };
        Scale {
            from,
            to,
            log,
            percentiles: false,
        }
    }

    /// A value that can be drawn: zero becomes the lower end of a logarithmic axis.
    fn floor(self, value: f64) -> f64 {
        if self.log {
            value.max(self.from)
        } else {
            value
        }
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = if self.log {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if self.log {
            let count = (self.to / self.from).log10().round() as i32;
            let decades = (0..=count).map(|power| self.from * 10_f64.powi(power));
            if count <= DECADES_DIVIDED_MAX && !self.percentiles {
                let divided = decades.flat_map(|decade| [decade, 2.0 * decade, 5.0 * decade]);
                return divided.filter(|value| *value <= self.to * 1.001).collect();
            }
            // The median lies between two decades, and most readers look for it.
            let median = percentile_place(0.5);
            let shows_median = self.percentiles && (self.from..self.to).contains(&median);
            return decades.chain(shows_median.then_some(median)).collect();
        }
        let raw = (self.to - self.from) / hint.max_num_points().clamp(2, 8) as f64;
        let decade = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * decade);
        let step = step.into_iter().find(|step| *step >= raw).unwrap_or(raw);
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step).floor() as i64;
        (first..=last).map(|at| at as f64 * step).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        if self.percentiles {
            return percentile_label(*value);
        }
        short(*value)
    }
}

/// `p50`, `p99.9`: a place as a percentile, with as many digits as it has nines.
fn percentile_label(place: f64) -> String {
    let percent = format!("{:.6}", 100.0 - 100.0 / place);
    let percent = percent.trim_end_matches('0').trim_end_matches('.');
    format!("p{percent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_its_names_and_all_its_lines() {
        let line = |name: &str| Line {
            name: name.into(),
            points: vec![(1.0, 5.0), (2.0, 5000.0)],
        };
        let axes = Axes::linear("latency", "load", "ms")
            .with_y_log()
            .with_x_log();
        let svg = lines(&axes, &[line("one"), line("two")]);
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
            "{svg}"
        );
        for text in ["latency", "load", "ms", "one", "two", "10k"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
    }

    #[test]
    fn a_mark_is_drawn_where_it_belongs_even_beyond_the_lines() {
        let line = Line {
            name: "one".into(),
            points: vec![(0.0, 5.0), (2.0, 50.0)],
        };
        let axes = Axes::linear("latency", "seconds", "ms").with_y_log();
        let svg = lines(&axes.with_mark(Some((3.0, "cut off".into()))), &[line]);
        assert!(svg.contains("cut off"), "{svg}");
        let labels: Vec<&str> = svg.lines().collect();
        for label in ["3", "2", "5", "20", "50"] {
            assert!(labels.contains(&label), "{label} in {svg}");
        }
    }

    #[test]
    fn an_axis_of_percentiles_is_labelled_with_them() {
        let axes = Axes::linear("latency", "percentile", "ms").with_x_percentiles();
        let quantiles = [0.0, 0.5, 0.9, 0.99, 0.999];
        let points = quantiles.map(|quantile| (percentile_place(quantile), 1.0));
        let line = Line {
            name: "one".into(),
            points: points.to_vec(),
        };
        let svg = lines(&axes, &[line]);
        let labels: Vec<&str> = svg.lines().filter(|text| text.starts_with('p')).collect();
        for label in ["p0", "p50", "p90", "p99", "p99.9"] {
            assert!(labels.contains(&label), "{label} in {labels:?}");
        }
        assert_eq!(percentile_label(percentile_place(0.99999)), "p99.999");
    }

    #[test]
    fn nothing_to_draw_is_a_chart_without_lines() {
        assert!(lines(&Axes::linear("a", "b", "c").with_y_log(), &[]).starts_with("<svg"));
        let flat = Line {
            name: "flat".into(),
            points: vec![(0.0, 0.0), (1.0, 0.0)],
        };
        assert!(lines(&Axes::linear("a", "b", "c"), &[flat]).starts_with("<svg"));
        assert!(bars("none", &[]).starts_with("<svg"));
        let zero = Bar {
            name: "x".into(),
            value: 0.0,
        };
        assert!(bars("zero", &[zero]).starts_with("<svg"));
    }

    #[test]
    fn the_longest_bar_is_the_largest_figure() {
        let bar = |name: &str, value: f64| Bar {
            name: name.into(),
            value,
        };
        let svg = bars("figures", &[bar("small", 1.0), bar("large", 4.0)]);
        let widths: Vec<u32> = svg
            .split("<rect ")
            .skip(2)
            .filter_map(|rect| {
                rect.split("width=\"")
                    .nth(1)?
                    .split('"')
                    .next()?
                    .parse()
                    .ok()
            })
            .collect();
        assert_eq!(widths.len(), 2, "{svg}");
        assert!(widths[1].abs_diff(4 * widths[0]) <= 4, "{widths:?}");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.25, 7.0, 12.5, 999.0, 12_345.0, 5e6, 2.5e9].map(short);
        assert_eq!(
            texts,
            ["0", "0.25", "7", "12.5", "999", "12.3k", "5M", "2.5G"]
        );
    }
}
