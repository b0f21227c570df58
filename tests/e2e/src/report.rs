//! A report as the tests read it.

use serde::Deserialize;
use std::fs;
use std::path::Path;

/// `kobj run --report FILE.json`, the fields that tests look at.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Name and version of the format.
    pub schema: String,
    /// The job.
    pub job: Job,
    /// Numbers per kind.
    pub balance: Vec<Balance>,
    /// What outlived the job and is proved to be its own.
    pub stragglers: Vec<Item>,
    /// What appeared meanwhile and is not proved to be anybody's.
    pub unattributed: Vec<Item>,
    /// Kinds that could not be seen.
    pub not_visible: Vec<NotVisible>,
}

/// The job of a report.
#[derive(Clone, Debug, Deserialize)]
pub struct Job {
    /// The name that was given.
    pub name: Option<String>,
    /// `cgroup`, `subreaper` or `isolate`.
    pub containment: String,
    /// Layers in use.
    pub tracing: Vec<String>,
    /// Whether every event was seen.
    pub complete: bool,
    /// Why not.
    pub incomplete_because: Vec<String>,
    /// Inner jobs.
    pub jobs: Vec<serde_json::Value>,
}

/// The balance of one kind.
#[derive(Clone, Debug, Deserialize)]
pub struct Balance {
    /// Kind.
    pub kind: String,
    /// Whether creations and deletions were counted from events.
    pub exact: bool,
    /// How many were made.
    pub created: Option<u64>,
    /// How many went.
    pub destroyed: Option<u64>,
    /// How many kobj destroyed.
    pub scrubbed: u64,
    /// How many are left.
    pub left: u64,
}

/// One object of a report.
#[derive(Clone, Debug, Deserialize)]
pub struct Item {
    /// Kind.
    pub kind: String,
    /// What a person calls it.
    pub name: String,
    /// What was done.
    pub action: String,
    /// Why.
    pub why: Option<String>,
    /// Who uses it.
    #[serde(default)]
    pub holders: Vec<serde_json::Value>,
    /// Why we believe so.
    #[serde(default)]
    pub evidence: Vec<serde_json::Value>,
}

/// A kind that a mode cannot see.
#[derive(Clone, Debug, Deserialize)]
pub struct NotVisible {
    /// Kind.
    pub kind: String,
    /// Why.
    pub why: String,
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let report: Self = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if report.schema != "kobj.report/1" {
            return Err(format!("{}: unknown schema {}", path.display(), report.schema));
        }
        Ok(report)
    }

    /// One line an object, for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = format!("containment {}, tracing {}\n", self.job.containment, self.job.tracing.join(" "));
        for (list, items) in [("straggler", &self.stragglers), ("unattributed", &self.unattributed)] {
            for item in items {
                let why = item.why.as_deref().unwrap_or("");
                text.push_str(&format!("{list}: {} {} {}: {why}\n", item.kind, item.name, item.action));
            }
        }
        for kind in &self.not_visible {
            text.push_str(&format!("not visible: {}: {}\n", kind.kind, kind.why));
        }
        text
    }
}
