//! The picture of `hecc explore`, as SVG: time against levels, time against bytes, and what the
//! numbers beside the points mean.

use std::fmt::Write as _;

use crate::output;

/// A point of the picture.
pub(crate) struct Mark {
    pub(crate) name: String,
    pub(crate) milliseconds: f64,
    pub(crate) levels: u64,
    pub(crate) bytes: u64,
    pub(crate) width: u64,
    pub(crate) ring: u64,
    /// Whether nothing dominates it.
    pub(crate) best: bool,
}

const PANEL: f64 = 420.0;
const LEFT: f64 = 80.0;
const TOP: f64 = 56.0;
const GAP: f64 = 110.0;
const ROW: f64 = 20.0;
const FRONT: &str = "#1f5fa8";
const REST: &str = "#9a9a9a";

/// An axis from data to the picture.
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Powers of ten with 2 and 5 between them.
    fn logarithmic(values: &[f64], label: &dyn Fn(f64) -> String) -> Axis {
        let least = values
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min)
            .max(1e-6);
        let most = values.iter().copied().fold(least, f64::max);
        let mut steps = Vec::new();
        for power in -7..16 {
            for digit in [1.0, 2.0, 5.0] {
                steps.push(digit * 10f64.powi(power));
            }
        }
        let low = steps
            .iter()
            .copied()
            .filter(|s| *s <= least / 1.1)
            .fold(1e-7, f64::max);
        let high = steps
            .iter()
            .copied()
            .filter(|s| *s >= most * 1.1)
            .fold(1e16, f64::min);
        let ticks: Vec<(f64, String)> = steps
            .into_iter()
            .filter(|s| (low * 0.999..=high * 1.001).contains(s))
            .map(|s| (s, label(s)))
            .collect();
        // at most eight labels
        let every = ticks.len().div_ceil(8);
        let ticks = ticks.into_iter().step_by(every).collect();
        Axis {
            low,
            high,
            logarithmic: true,
            ticks,
        }
    }

    /// Whole numbers.
    fn whole(values: &[f64]) -> Axis {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let most = values.iter().copied().fold(least, f64::max).ceil();
        let (low, high) = ((least - 1.0).max(0.0), most + 1.0);
        let step = ((high - low) / 8.0).ceil().max(1.0);
        let count = ((high - low) / step).floor() as usize;
        let ticks = (0..=count)
            .map(|i| low + step * i as f64)
            .map(|v| (v, format!("{v}")))
            .collect();
        Axis {
            low,
            high,
            logarithmic: false,
            ticks,
        }
    }

    /// From 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let by = |v: f64| {
            if self.logarithmic {
                v.max(1e-9).ln()
            } else {
                v
            }
        };
        (by(value) - by(self.low)) / (by(self.high) - by(self.low)).max(1e-12)
    }
}

/// Draws the picture.
pub(crate) fn svg(title: &str, marks: &[Mark]) -> String {
    let time: Vec<f64> = marks.iter().map(|m| m.milliseconds).collect();
    let levels: Vec<f64> = marks.iter().map(|m| m.levels as f64).collect();
    let bytes: Vec<f64> = marks
        .iter()
        .map(|m| m.bytes as f64 / f64::from(1 << 20))
        .collect();
    let width = LEFT + 2.0 * PANEL + GAP + 40.0;
    let legend = TOP + PANEL + 84.0;
    let height = legend + ROW * (marks.len() + 1) as f64 + 20.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    text(
        &mut out,
        LEFT,
        26.0,
        "start",
        17,
        &format!("{title}: what it can be compiled to"),
    );
    let x = Axis::logarithmic(&time, &|v| output::duration(v / 1e3));
    panel(
        &mut out,
        LEFT,
        &x,
        &Axis::whole(&levels),
        "levels",
        marks,
        &time,
        &levels,
    );
    let y = Axis::logarithmic(&bytes, &|v| format!("{v}"));
    let right = LEFT + PANEL + GAP;
    panel(
        &mut out,
        right,
        &x,
        &y,
        "encrypted inputs (MiB)",
        marks,
        &time,
        &bytes,
    );
    text(
        &mut out,
        LEFT,
        legend - 8.0,
        "start",
        13,
        "filled: on the Pareto front; hollow: dominated. Times are predicted.",
    );
    for (i, m) in marks.iter().enumerate() {
        let y = legend + ROW * (i as f64 + 1.0);
        let line = format!(
            "{}  {}: {}, {} levels, width {}, inputs {}, N = {}",
            i + 1,
            m.name,
            output::duration(m.milliseconds / 1e3),
            m.levels,
            m.width,
            output::bytes(m.bytes),
            m.ring
        );
        text(&mut out, LEFT, y, "start", 13, &line);
    }
    out.push_str("</svg>\n");
    out
}

#[expect(clippy::too_many_arguments, reason = "two axes and what lies on them")]
fn panel(
    out: &mut String,
    left: f64,
    x: &Axis,
    y: &Axis,
    y_name: &str,
    marks: &[Mark],
    xs: &[f64],
    ys: &[f64],
) {
    let bottom = TOP + PANEL;
    let _ = writeln!(
        out,
        "<rect x=\"{left}\" y=\"{TOP}\" width=\"{PANEL}\" height=\"{PANEL}\" fill=\"none\" stroke=\"#444\"/>"
    );
    for (value, label) in &x.ticks {
        let at = left + PANEL * x.place(*value);
        line(out, at, TOP, at, bottom);
        text(out, at, bottom + 18.0, "middle", 12, label);
    }
    for (value, label) in &y.ticks {
        let at = bottom - PANEL * y.place(*value);
        line(out, left, at, left + PANEL, at);
        text(out, left - 8.0, at + 4.0, "end", 12, label);
    }
    text(
        out,
        left + PANEL / 2.0,
        bottom + 42.0,
        "middle",
        13,
        "evaluation time",
    );
    let (lx, ly) = (left - 56.0, TOP + PANEL / 2.0);
    let _ = writeln!(
        out,
        "<text x=\"{lx}\" y=\"{ly}\" text-anchor=\"middle\" transform=\"rotate(-90 {lx} {ly})\">{y_name}</text>"
    );
    // Points in the same place share one label.
    let mut places: Vec<(f64, f64, bool, Vec<usize>)> = Vec::new();
    for (i, mark) in marks.iter().enumerate() {
        let px = left + PANEL * x.place(xs[i]);
        let py = bottom - PANEL * y.place(ys[i]);
        let near = places
            .iter_mut()
            .find(|(qx, qy, ..)| (px - qx).abs() < 14.0 && (py - qy).abs() < 10.0);
        let (fill, colour) = if mark.best {
            (FRONT, FRONT)
        } else {
            ("white", REST)
        };
        let _ = writeln!(
            out,
            "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"5\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        );
        match near {
            Some((.., best, list)) => {
                *best |= mark.best;
                list.push(i + 1);
            }
            None => places.push((px, py, mark.best, vec![i + 1])),
        }
    }
    for (px, py, best, list) in places {
        let names: Vec<String> = list.iter().map(ToString::to_string).collect();
        let colour = if best { FRONT } else { "#666" };
        // towards the middle where there is no room to the right
        let (dx, anchor) = if px > left + PANEL - 60.0 {
            (-9.0, "end")
        } else {
            (9.0, "start")
        };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" font-size=\"12\" fill=\"{colour}\">{}</text>",
            px + dx,
            py - 6.0,
            names.join(" ")
        );
    }
}

fn line(out: &mut String, x1: f64, y1: f64, x2: f64, y2: f64) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#e2e2e2\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, size: u32, content: &str) {
    let content = content
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"#222\">{content}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_inside_and_named() {
        let marks: Vec<Mark> = (0..9u64)
            .map(|i| Mark {
                name: format!("O2.levels.auto.s{}", 1 << i),
                milliseconds: 0.01 * 7f64.powi(i as i32),
                levels: 1 + i % 4,
                bytes: 131_072 << i,
                width: i,
                ring: 4096,
                best: i % 2 == 0,
            })
            .collect();
        for marks in [&marks[..], &marks[..1]] {
            let picture = svg("f<x>", marks);
            assert!(picture.contains("f&lt;x&gt;"));
            for m in marks {
                assert!(picture.contains(&m.name));
            }
            let circles: Vec<&str> = picture
                .lines()
                .filter(|l| l.starts_with("<circle"))
                .collect();
            assert_eq!(circles.len(), 2 * marks.len());
            for c in circles {
                let number = |key: &str| -> f64 {
                    let rest = c.split_once(key).unwrap().1;
                    rest.split_once('"').unwrap().0.parse().unwrap()
                };
                let (x, y) = (number("cx=\""), number("cy=\""));
                assert!((LEFT..=LEFT + 2.0 * PANEL + GAP).contains(&x), "{c}");
                assert!((TOP..=TOP + PANEL).contains(&y), "{c}");
            }
        }
    }
}
