//! The costs over the numbers of streams, as an SVG with two logarithmic axes.
//!
//! Knows names and numbers, nothing of a shard.

use std::fmt::Write;

/// A cost: its name, and a value for each number of streams.
pub struct Line {
    pub name: String,
    pub values: Vec<f64>,
}

/// Distinguishable with the usual kinds of colour blindness (Okabe and Ito).
const COLOURS: [&str; 9] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333a45", "#a0a6ae",
    "#a0a6ae",
];

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 210.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Draws the lines.
pub fn draw(streams: &[usize], lines: &[Line]) -> String {
    let x = Axis::around(
        streams.iter().map(|&count| count as f64),
        LEFT,
        WIDTH - RIGHT,
    );
    let values = lines.iter().flat_map(|line| line.values.iter().copied());
    let y = Axis::around(values, HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#333a45\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"16\">Cost in nanoseconds by number of streams</text>\n"
    );
    for decade in y.decades() {
        let at = y.place(decade);
        let right = WIDTH - RIGHT;
        push(
            &mut svg,
            &format!("<path d=\"M{LEFT} {at:.0}H{right}\" stroke=\"#e3e6ea\"/>"),
        );
        push(
            &mut svg,
            &text(LEFT - 8.0, at + 4.0, "end", &decade.to_string()),
        );
    }
    for &count in streams {
        let at = x.place(count as f64);
        push(
            &mut svg,
            &text(at, HEIGHT - BOTTOM + 20.0, "middle", &count.to_string()),
        );
    }
    for (at, line) in lines.iter().enumerate() {
        draw_line(&mut svg, (&x, &y), (streams, line), at);
    }
    svg + "</svg>\n"
}

fn draw_line(
    svg: &mut String,
    (x, y): (&Axis, &Axis),
    (streams, line): (&[usize], &Line),
    at: usize,
) {
    let colour = COLOURS[at % COLOURS.len()];
    let points = streams
        .iter()
        .zip(&line.values)
        .map(|(&count, &value)| format!("{:.1},{:.1}", x.place(count as f64), y.place(value)));
    let points: Vec<String> = points.collect();
    let dashes = if line.name.starts_with("memory") {
        " stroke-dasharray=\"5 4\""
    } else {
        ""
    };
    let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}");
    push(
        svg,
        &format!("<polyline points=\"{}\" {style}/>", points.join(" ")),
    );
    let (left, middle) = (WIDTH - RIGHT + 12.0, TOP + 20.0 * at as f64);
    push(svg, &format!("<path d=\"M{left} {middle}h18\" {style}/>"));
    push(svg, &text(left + 24.0, middle + 4.0, "start", &line.name));
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{words}</text>")
}

fn push(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a string takes all");
}

/// A logarithmic axis of whole decades.
struct Axis {
    /// The logarithms of its ends.
    from: f64,
    to: f64,
    /// The pixels of its ends.
    begin: f64,
    end: f64,
}

impl Axis {
    fn around(values: impl Iterator<Item = f64>, begin: f64, end: f64) -> Axis {
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| *value > 0.0) {
            from = from.min(value.log10().floor());
            to = to.max(value.log10().ceil());
        }
        Axis {
            from,
            to: to.max(from + 1.0),
            begin,
            end,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - self.from) / (self.to - self.from);
        self.begin + (self.end - self.begin) * share
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.from as i32..=self.to as i32).map(|power| 10f64.powi(power))
    }
}
