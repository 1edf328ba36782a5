//! What was measured: as a table, as JSON, and as a page of bars and curves.

use std::{fmt::Write, fs, io, path::Path};

use serde_json::json;

use crate::table::{BEST, FLOOR, SELKIE, Workload};

/// One subject of one workload at one size.
pub struct Row {
    pub workload: &'static str,
    pub subject: &'static str,
    pub unit: &'static str,
    pub n: usize,
    pub unfair: Option<&'static str>,
    /// Sorted.
    pub samples: Vec<f64>,
}

impl Row {
    pub fn median(&self) -> f64 {
        let middle = self.samples.len() / 2;
        if self.samples.len() % 2 == 1 {
            self.samples[middle]
        } else {
            (self.samples[middle - 1] + self.samples[middle]) / 2.0
        }
    }

    fn min(&self) -> f64 {
        self.samples[0]
    }

    fn max(&self) -> f64 {
        self.samples[self.samples.len() - 1]
    }

    fn is_floor(&self) -> bool {
        self.subject.starts_with(FLOOR)
    }

    fn is_peer(&self) -> bool {
        !self.is_floor() && self.unfair.is_none() && !self.subject.starts_with(SELKIE)
    }
}

/// How selkie stands in one workload, at one size.
struct Standing<'a> {
    selkie: &'a Row,
    best: Option<&'a Row>,
    floor: Option<&'a Row>,
}

impl<'a> Standing<'a> {
    fn of(rows: &'a [Row], n: usize) -> Option<Self> {
        let at = || rows.iter().filter(move |row| row.n == n);
        Some(Self {
            selkie: at().find(|row| row.subject == SELKIE)?,
            best: at().filter(|row| row.is_peer()).min_by(|a, b| a.median().total_cmp(&b.median())),
            floor: at().find(|row| row.subject == FLOOR),
        })
    }
}

pub fn number(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}

/// A workload as a table, with the verdict below.
pub fn table(workload: &Workload, rows: &[Row]) -> String {
    let mut out = String::new();
    let (id, title, unit) = (workload.id, workload.title, workload.unit);
    let mut sizes: Vec<_> = rows.iter().map(|row| row.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for n in sizes {
        _ = writeln!(out, "\n{id}  {title}  (n = {n}, {unit})");
        _ = writeln!(
            out,
            "  {:38} {:>10} {:>22} {:>8} {:>8}",
            "", "median", "min .. max", "x best", "x floor"
        );
        let Some(standing) = Standing::of(rows, n) else { continue };
        for row in rows.iter().filter(|row| row.n == n) {
            let ratio = |to: Option<&Row>| {
                to.map_or("-".to_owned(), |to| format!("{:.2}", row.median() / to.median()))
            };
            _ = writeln!(
                out,
                "  {:38} {:>10} {:>22} {:>8} {:>8}{}",
                row.subject,
                number(row.median()),
                format!("{} .. {}", number(row.min()), number(row.max())),
                ratio(standing.best),
                ratio(standing.floor),
                row.unfair.map_or(String::new(), |why| format!("  not counted: {why}")),
            );
        }
        if n == workload.n {
            for (goal, reached) in goals(workload, rows, &standing) {
                _ = writeln!(out, "  goal: {goal}: {}", if reached { "reached" } else { "not reached" });
            }
        }
    }
    out
}

fn goals(workload: &Workload, rows: &[Row], standing: &Standing<'_>) -> Vec<(String, bool)> {
    let mut goals = Vec::new();
    let (name, limit) = workload.goal.peer;
    let peer = match name {
        BEST => standing.best,
        _ => rows.iter().find(|row| row.n == workload.n && row.subject == name),
    };
    let mut add = |limit: f64, to: &Row, name: String| {
        let ratio = standing.selkie.median() / to.median();
        goals.push((format!("at most {limit} x {name}, is {ratio:.2}"), ratio <= limit));
    };
    if let Some(peer) = peer {
        let text = if name == BEST { format!("{BEST} ({})", peer.subject) } else { name.to_owned() };
        add(limit, peer, text);
    }
    if let (Some((name, limit)), Some(floor)) = (workload.goal.floor, standing.floor) {
        add(limit, floor, name.to_owned());
    }
    goals
}

/// `directory/native.json` and `directory/native.html`.
pub fn write(directory: &Path, measured: &[(&Workload, Vec<Row>)]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let rows: Vec<_> = measured.iter().flat_map(|(_, rows)| rows).map(json).collect();
    fs::write(directory.join("native.json"), serde_json::to_string_pretty(&rows)?)?;
    fs::write(directory.join("native.html"), page(measured))
}

fn json(row: &Row) -> serde_json::Value {
    let unit = if row.unit == "ns" { "ns" } else { row.unit };
    let mut value = json!({
        "workload": row.workload,
        "subject": row.subject,
        "n": row.n,
        "unit": unit,
        "min": row.min(),
        "max": row.max(),
        "samples": row.samples,
    });
    let key = if unit.starts_with("ns") { "median_ns" } else { "median" };
    value[key] = json!(row.median());
    if let Some(why) = row.unfair {
        value["not_counted"] = json!(why);
    }
    value
}

const STYLE: &str = include_str!("page.css");

fn page(measured: &[(&Workload, Vec<Row>)]) -> String {
    let mut out = String::new();
    _ = write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><title>selkie beside its peers</title><style>{STYLE}</style>\
         <h1>selkie beside its peers</h1><p>Medians of interleaved samples of one run. Shorter is better. \
         Thin lines reach from the least to the greatest sample; grey bars are floors; pale ones are not counted.</p>"
    );
    for (workload, rows) in measured {
        let (id, title) = (workload.id, workload.title);
        _ = write!(out, "<h2>{id}: {title}</h2><p>n = {}, {}", workload.n, workload.unit);
        if let Some(standing) = Standing::of(rows, workload.n) {
            for (goal, reached) in goals(workload, rows, &standing) {
                let (class, word) = if reached { ("yes", "reached") } else { ("no", "not reached") };
                _ = write!(out, "<br>Goal: {goal}: <b class={class}>{word}</b>");
            }
        }
        out.push_str("</p>");
        bars(&mut out, rows, workload.n);
        if rows.iter().any(|row| row.n != workload.n) {
            curves(&mut out, rows, workload.unit);
        }
    }
    out.push_str("</html>\n");
    out
}

fn colour(row: &Row) -> &'static str {
    match row {
        _ if row.subject.starts_with(SELKIE) => "#0f8b8d",
        _ if row.is_floor() => "#9aa5b1",
        _ if row.unfair.is_some() => "#e8b5a8",
        _ => "#e07a5f",
    }
}

fn bars(out: &mut String, rows: &[Row], n: usize) {
    const LABEL: f64 = 270.0;
    const LENGTH: f64 = 560.0;
    let rows: Vec<_> = rows.iter().filter(|row| row.n == n).collect();
    let longest = rows.iter().map(|row| row.median()).fold(f64::MIN_POSITIVE, f64::max);
    _ = write!(out, "<svg viewBox='0 0 900 {}' role=img>", rows.len() * 22 + 4);
    for (index, row) in rows.iter().enumerate() {
        let x = |value: f64| LABEL + LENGTH * (value / longest).min(1.05);
        let y = index as f64 * 22.0;
        _ = write!(
            out,
            "<text x='{}' y='{}' text-anchor=end>{}</text><rect x='{LABEL}' y='{}' width='{:.1}' height=16 fill='{}'/>\
             <line x1='{:.1}' x2='{:.1}' y1='{}' y2='{}' stroke='currentColor'/><text x='{:.1}' y='{}'>{}</text>",
            LABEL - 8.0,
            y + 15.0,
            row.subject,
            y + 2.0,
            x(row.median()) - LABEL,
            colour(row),
            x(row.min()),
            x(row.max()),
            y + 10.0,
            y + 10.0,
            x(row.max()).max(x(row.median())) + 6.0,
            y + 15.0,
            number(row.median()),
        );
    }
    out.push_str("</svg>");
}

/// Both axes logarithmic.
fn curves(out: &mut String, rows: &[Row], unit: &str) {
    const HEIGHT: f64 = 300.0;
    let counted: Vec<_> = rows.iter().filter(|row| row.unfair.is_none() && row.median() > 0.0).collect();
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v.log10()), high.max(v.log10())))
    };
    let (left, right) = range(&mut counted.iter().map(|row| row.n as f64));
    let (low, high) = range(&mut counted.iter().map(|row| row.median()));
    let x = |n: usize| 60.0 + 560.0 * ((n as f64).log10() - left) / (right - left).max(0.1);
    let y = |value: f64| 10.0 + (HEIGHT - 40.0) * (1.0 - (value.log10() - low) / (high - low).max(0.1));
    _ = write!(out, "<svg viewBox='0 0 900 {HEIGHT}' role=img>");
    for power in low.floor() as i32..=high.ceil() as i32 {
        let value = 10f64.powi(power);
        if (low - 0.05..=high + 0.05).contains(&value.log10()) {
            _ = write!(
                out,
                "<line class=grid x1=60 x2=620 y1='{0:.1}' y2='{0:.1}'/><text x=52 y='{1:.1}' text-anchor=end>{value} {unit}</text>",
                y(value),
                y(value) + 4.0
            );
        }
    }
    let mut subjects: Vec<&str> = Vec::new();
    for row in &counted {
        if !subjects.contains(&row.subject) {
            subjects.push(row.subject);
        }
    }
    let mut label = 0.0;
    let mut ends: Vec<_> = Vec::new();
    for subject in subjects {
        let mut points: Vec<_> = counted.iter().filter(|row| row.subject == subject).collect();
        points.sort_by_key(|row| row.n);
        let path: Vec<_> =
            points.iter().map(|row| format!("{:.1},{:.1}", x(row.n), y(row.median()))).collect();
        let last = points[points.len() - 1];
        let width = if last.subject == SELKIE { 3.5 } else { 1.5 };
        _ = write!(
            out,
            "<polyline points='{}' fill=none stroke='{}' stroke-width={width}/>",
            path.join(" "),
            colour(last)
        );
        ends.push((y(last.median()), subject));
    }
    // From the top down, so that no label covers another.
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (end, subject) in ends {
        label = f64::max(label + 15.0, end + 4.0);
        _ = write!(out, "<text x=628 y='{label:.1}'>{subject}</text>");
    }
    let mut sizes: Vec<_> = counted.iter().map(|row| row.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for n in sizes {
        _ = write!(out, "<text x='{:.1}' y='{}' text-anchor=middle>{n}</text>", x(n), HEIGHT - 8.0);
    }
    out.push_str("</svg>");
}
