//! Options, figures and how they are printed.

use serde_json::{Map, Value, json};

/// What to run and how to print it.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Names or groups; empty for all.
    pub(crate) wanted: Vec<String>,
    /// One JSON object a line.
    pub(crate) json: bool,
    /// The largest number of objects that is tried.
    pub(crate) most: Option<usize>,
}

impl Options {
    /// Reads the command line.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--json" => options.json = true,
                "--group" => options.wanted.push(value()?),
                "--most" => {
                    let most = value()?;
                    options.most = Some(most.parse().map_err(|_| format!("--most {most}: not a number"))?);
                }
                flag if flag.starts_with('-') => return Err(format!("unknown option {flag}")),
                name => options.wanted.push(name.into()),
            }
        }
        Ok(options)
    }

    /// Whether anything of a group may be wanted: named itself, or a name that may be in it.
    pub(crate) fn wants_group(&self, group: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == group || wanted.starts_with(group))
    }

    /// Whether one benchmark is wanted. Names begin with their group's.
    pub(crate) fn wants(&self, group: &str, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == group || name.starts_with(wanted.as_str()))
    }
}

/// Samples of one side: the cost of an operation, once for each round.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds a round.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn quantile(&self, of_hundred: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() * of_hundred / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// The middle round.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(50)
    }

    /// Of a hundred rounds the last but one.
    pub(crate) fn p99(&self) -> f64 {
        self.quantile(99)
    }

    fn json(&self) -> Value {
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        json!({"median": tenth(self.median()), "p99": tenth(self.p99()), "rounds": self.0.len()})
    }
}

/// One figure.
pub(crate) struct Figure<'a> {
    pub(crate) name: &'a str,
    pub(crate) group: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) ours: Samples,
    pub(crate) rivals: Vec<(&'a str, Samples)>,
    /// What is asked for, and whether it is met.
    pub(crate) bar: Option<(&'a str, bool)>,
}

/// Prints figures as they come.
pub(crate) struct Report {
    json: bool,
    lines: usize,
    failed: usize,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, lines: 0, failed: 0 }
    }

    /// How many figures were printed.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Whether each bar was met.
    pub(crate) fn all_hold(&self) -> bool {
        self.failed == 0
    }

    pub(crate) fn print(&mut self, figure: &Figure<'_>) {
        self.lines += 1;
        self.failed += usize::from(figure.bar.is_some_and(|(_, holds)| !holds));
        if self.json {
            let rivals: Map<String, Value> =
                figure.rivals.iter().map(|(name, samples)| ((*name).into(), samples.json())).collect();
            let line = json!({
                "name": figure.name, "group": figure.group, "unit": figure.unit, "ours": figure.ours.json(),
                "rivals": rivals, "bar": figure.bar.map(|(bar, _)| bar), "holds": figure.bar.map(|(_, holds)| holds),
            });
            println!("{line}");
            return;
        }
        print!("{:32} {:10.1} {} (p99 {:.1})", figure.name, figure.ours.median(), figure.unit, figure.ours.p99());
        for (name, samples) in &figure.rivals {
            let ratio = figure.ours.median() / samples.median();
            print!("; {name} {:.1} (p99 {:.1}), {ratio:.2} times", samples.median(), samples.p99());
        }
        match figure.bar {
            Some((bar, holds)) => println!("; bar: {bar}: {}", if holds { "holds" } else { "MISSED" }),
            None => println!(),
        }
    }
}
