//! What is printed.

use std::fmt::Display;

/// The table of what has a bar, printed row by row.
pub(crate) struct Bars {
    /// The number of rows that miss their bar.
    missed: usize,
}

impl Bars {
    pub(crate) fn new() -> Self {
        println!("| what | measured | beside | ratio | bar | |");
        println!("| --- | ---: | ---: | ---: | --- | --- |");
        Self { missed: 0 }
    }

    /// Prints a ratio of two measurements, which must be at most the bar.
    pub(crate) fn at_most(&mut self, what: impl Display, pair: (f64, f64), unit: &str, bar: f64) {
        let (measured, beside) = pair;
        let ratio = measured / beside;
        self.row(
            what,
            &[
                format!("{measured:.1} {unit}"),
                format!("{beside:.1} {unit}"),
                format!("{ratio:.2}"),
                format!("≤ {bar:.2}"),
            ],
            rounded(ratio) <= bar,
        );
    }

    /// Prints a ratio of two rates, which must be at least the bar.
    pub(crate) fn at_least(&mut self, what: impl Display, pair: (f64, f64), bar: f64) {
        let (measured, beside) = pair;
        let ratio = measured / beside;
        self.row(
            what,
            &[
                format!("{measured:.0} /s"),
                format!("{beside:.0} /s"),
                format!("{ratio:.2}"),
                format!("≥ {bar:.2}"),
            ],
            rounded(ratio) >= bar,
        );
    }

    /// Prints a measurement that is not compared with another one.
    pub(crate) fn alone(
        &mut self,
        what: impl Display,
        measured: impl Display,
        bar: impl Display,
        is_met: bool,
    ) {
        let (measured, bar) = (measured.to_string(), bar.to_string());
        self.row(what, &[measured, String::new(), String::new(), bar], is_met);
    }

    fn row(&mut self, what: impl Display, cells: &[String; 4], is_met: bool) {
        self.missed += usize::from(!is_met);
        let mark = if is_met { "" } else { "missed" };
        println!("| {what} | {} | {mark} |", cells.join(" | "));
    }

    pub(crate) fn missed(&self) -> usize {
        self.missed
    }
}

/// The table of cacheio and its peers, printed when all is measured.
pub(crate) struct Peers {
    rows: Vec<(String, [String; 5])>,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub(crate) fn row<T>(
        &mut self,
        what: impl Into<String>,
        cells: [T; 5],
        show: impl Fn(T) -> String,
    ) {
        self.rows.push((what.into(), cells.map(show)));
    }

    pub(crate) fn print(&self, names: [&str; 5]) {
        if self.rows.is_empty() {
            return;
        }
        println!("\n| | {} |", names.join(" | "));
        println!("|{}", " --- |".repeat(names.len() + 1));
        for (what, cells) in &self.rows {
            println!("| {what} | {} |", cells.join(" | "));
        }
    }
}

/// Compared as printed.
fn rounded(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// Returns the value that this share of the values does not exceed.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]
pub(crate) fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values[at.min(values.len() - 1)]
}
