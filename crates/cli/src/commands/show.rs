//! `kobj show PATH|KOID`: everything that is known of one object.

use crate::report::{base64, escape};
use crate::space::{Entry, Fact, World, facts, path_of, path_of_job, resolve};
use crate::state;
use clap::Args;
use kobj_abi::Koid;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

/// Flags of `kobj show`.
#[derive(Debug, Args)]
pub(crate) struct ShowFlags {
    /// A path of the tree (kobj tree, kobj ls), or a koid as jobs and reports print it
    #[arg(value_name = "PATH|KOID")]
    name: OsString,
    /// As JSON
    #[arg(short = 'J', long)]
    json: bool,
}

/// Prints what is known; exit 1 where there is no such object.
pub(crate) fn run(flags: &ShowFlags) -> Result<ExitCode, String> {
    let world = World::new()?;
    let path = match koid(&flags.name) {
        Some(koid) => path_of_koid(&world, koid),
        None => Ok(flags.name.clone()),
    };
    let found = match path.and_then(|path| resolve(&world, &path)) {
        Ok(found) => found,
        Err(sentence) => return super::say_not_found(&sentence),
    };
    let shown: Vec<Vec<Fact>> = found.iter().map(|entry| facts(&world, entry)).collect();
    let text = if flags.json { render_json(&found, shown) } else { shown.iter().map(|facts| render(facts)).collect() };
    crate::say(&text)?;
    world.tell_unreadable();
    Ok(ExitCode::SUCCESS)
}

/// `era:counter`, alone or after a tag's letters.
fn koid(name: &OsStr) -> Option<Koid> {
    let text = name.to_str()?;
    let after_letters = text.split_at_checked(5).filter(|(letters, _)| letters.ends_with('-')).map(|(_, koid)| koid);
    text.parse().ok().or_else(|| after_letters?.parse().ok())
}

/// A run by its koid; what the newest report numbered, if it is still there.
fn path_of_koid(world: &World, koid: Koid) -> Result<OsString, String> {
    if let Some(job) = world.job_of(koid) {
        return Ok(OsString::from_vec(path_of_job(job)));
    }
    let report = state::load_last()?;
    let rows = report.iter().flat_map(|report| report.stragglers.iter().chain(&report.unattributed));
    let Some(row) = rows.into_iter().find(|row| row.koid == koid.to_string()) else {
        return Err(format!(
            "no run that has a record is {koid}, and the newest report numbered nothing so; kobj jobs -o +KOID and \
             kobj last -o +KOID list what can be asked for"
        ));
    };
    match world.of_identity(row.kind, &row.identity.to_string()) {
        Some(image) => Ok(OsString::from_vec(path_of(image))),
        None => Err(format!(
            "{koid} was the {} {} and is gone by now; kobj last says what became of it",
            row.kind.name(),
            escape::for_terminal(&row.name.bytes())
        )),
    }
}

fn render(facts: &[Fact]) -> String {
    let width = facts.iter().map(|fact| fact.label.len()).max().unwrap_or(0);
    let mut out = String::new();
    for fact in facts {
        for (index, line) in fact.lines.iter().enumerate() {
            let label = if index == 0 { fact.label } else { "" };
            _ = writeln!(out, "{label:<width$}  {line}");
        }
    }
    out
}

fn render_json(found: &[Entry<'_>], shown: Vec<Vec<Fact>>) -> String {
    let object = |(entry, facts): (&Entry<'_>, Vec<Fact>)| {
        let mut object = serde_json::Map::new();
        for fact in facts {
            object.insert(fact.label.to_owned(), fact.value);
        }
        object.insert("path".into(), String::from_utf8_lossy(&entry.path).into());
        if std::str::from_utf8(&entry.path).is_err() {
            object.insert("path_bytes".into(), base64::encode(entry.path.as_slice()).into());
        }
        Value::Object(object)
    };
    let list: Vec<Value> = found.iter().zip(shown).map(object).collect();
    format!("{:#}\n", serde_json::json!({ "objects": list }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn a_koid_is_told_from_a_path_with_and_without_its_letters() {
        let wanted = "6924e0a1:00000003".parse().ok();
        assert_eq!(koid(OsStr::new("6924e0a1:00000003")), wanted);
        assert_eq!(koid(OsStr::new("HOST-6924e0a1:00000003")), wanted);
        for path in
            ["/jobs/1", "jobs", "", "segment:/dev/shm/x", "HOST-", "6924e0a1:00000000", "äöüß-6924e0a1:00000003"]
        {
            assert_eq!(koid(OsStr::new(path)), None, "{path}");
        }
        assert_eq!(koid(OsStr::from_bytes(b"\xff\xff\xff\xff-6924e0a1:00000003")), None);
    }
}
