//! `kobj why NAME`: why an object is still here: who holds it, what keeps those alive, else what it waits for.

use super::census::judge;
use super::objects::{find_some, view};
use crate::report::{escape, text};
use clap::Args;
use kobj_abi::{Class, HostKind};
use kobj_core::image::{HostImage, Identity};
use kobj_host::holders::Holders;
use kobj_host::kind::Verdict;
use kobj_host::kinds;
use kobj_host::proc::Proc;
use kobj_host::view::View;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Flags of `kobj why`.
#[derive(Debug, Args)]
pub(crate) struct WhyFlags {
    /// A path, a process id, a System V id, ADDRESS:PORT, @abstract, or KIND:NAME
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,
    /// As JSON
    #[arg(short = 'J', long)]
    json: bool,
}

/// Ancestors shown of one process.
const ANCESTORS_MAX: usize = 64;

/// A process in a chain.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    pid: u32,
    command: Vec<u8>,
}

/// Why one object is still here.
struct Answer {
    object: HostImage,
    verdict: Verdict,
    /// In which ways, and the holder with its ancestors, nearest first.
    chains: Vec<(Vec<&'static str>, Vec<Link>)>,
}

/// Prints the chains; exit 0 where something keeps it, 1 where nobody does.
pub(crate) fn run(flags: &WhyFlags) -> Result<ExitCode, String> {
    let view = view()?;
    let mut objects = Vec::new();
    for name in &flags.names {
        objects.extend(find_some(&view, name)?);
    }
    let holders = Holders::of_trees(&view, &objects);
    let answers: Vec<Answer> =
        objects.into_iter().enumerate().map(|(index, object)| answer(&view, object, &holders, index)).collect();
    let kept = answers.iter().any(|answer| !answer.chains.is_empty());
    if flags.json {
        crate::say(&render_json(&answers))?;
    } else {
        crate::say(&answers.iter().map(render).collect::<String>())?;
    }
    super::who::tell_unreadable(holders.unreadable);
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn answer(view: &View, object: HostImage, holders: &Holders, index: usize) -> Answer {
    let mut chains: Vec<(Vec<&'static str>, Vec<Link>)> = Vec::new();
    if let Identity::Process { pid, .. } = object.identity {
        let line = ancestors(view, pid);
        if line.len() > 1 {
            chains.push((Vec::new(), line.into_iter().skip(1).collect()));
        }
    }
    for holder in holders.of_object(index) {
        // Holders come sorted by process.
        match chains.last_mut() {
            Some((how, chain)) if chain.first().is_some_and(|link| link.pid == holder.pid) && !how.is_empty() => {
                how.push(holder.how.name());
            }
            _ => chains.push((vec![holder.how.name()], ancestors(view, holder.pid))),
        }
    }
    let verdict = judge(view, &object);
    Answer { object, verdict, chains }
}

/// The process and its parents up to the first process, each once.
fn ancestors(view: &View, mut pid: u32) -> Vec<Link> {
    let Ok(proc) = Proc::open(&view.proc) else { return Vec::new() };
    let mut line = Vec::new();
    let mut seen = HashSet::new();
    while pid != 0 && line.len() < ANCESTORS_MAX && seen.insert(pid) {
        let Some(stat) = proc.life(pid).ok().and_then(|life| life.stat()) else { break };
        line.push(Link { pid, command: stat.command });
        pid = stat.parent;
    }
    line
}

fn render(answer: &Answer) -> String {
    let object = &answer.object;
    let size = object.size.map_or(String::new(), |size| format!(", {}", text::human_size(size)));
    let name = text::shown_name(object.kind, &object.name);
    let mut out = format!("{name} ({}{size})\n", shown_kind(object));
    for (how, chain) in &answer.chains {
        for (depth, link) in chain.iter().enumerate() {
            let is_holder = depth == 0 && !how.is_empty();
            let word = if is_holder { "held by" } else { "child of" };
            let ways = if is_holder { format!(" ({})", how.join(", ")) } else { String::new() };
            let command = escape::for_terminal(&link.command);
            _ = writeln!(out, "{:indent$}{word} {} {command}{ways}", "", link.pid, indent = 2 * (depth + 1));
        }
    }
    let said = match &answer.verdict {
        Verdict::Unused(words) => format!("the kernel says that nobody uses it: {words}"),
        Verdict::InUse(_, words) => format!("the kernel says that it is in use: {words}"),
        Verdict::Gone => "it is gone by now".into(),
        Verdict::Replaced => "its name leads to another object by now".into(),
        Verdict::Unknown(words) => format!("no exact judge: {words}"),
    };
    _ = writeln!(out, "  {}", escape::for_terminal(said.as_bytes()));
    if answer.chains.is_empty() {
        _ = writeln!(
            out,
            "  {}",
            kinds::facts(object.kind).map_or("it stays until somebody deletes it", |facts| facts.end)
        );
    }
    out
}

/// The kind's word; a file or folder in no place of kobj's is just that.
const fn shown_kind(object: &HostImage) -> &'static str {
    match (object.class, object.kind) {
        (Class::Output, HostKind::TemporaryFile) => "file",
        (Class::Output, HostKind::TemporaryFolder) => "folder",
        (_, kind) => kind.name(),
    }
}

fn render_json(answers: &[Answer]) -> String {
    let chain = |(how, chain): &(Vec<&'static str>, Vec<Link>)| {
        let links: Vec<serde_json::Value> = chain
            .iter()
            .map(|link| serde_json::json!({ "pid": link.pid, "command": String::from_utf8_lossy(&link.command) }))
            .collect();
        serde_json::json!({ "how": how, "processes": links })
    };
    let object = |answer: &Answer| {
        let name = crate::report::schema::NameRow::new(&answer.object.name);
        let said = match &answer.verdict {
            Verdict::Unused(words) | Verdict::InUse(_, words) | Verdict::Unknown(words) => Some(words),
            Verdict::Gone | Verdict::Replaced => None,
        };
        let mut value = serde_json::json!({
            "kind": answer.object.kind.name(),
            "name": name.name,
            "identity": answer.object.identity.to_string(),
            "use": super::census::use_word(&answer.verdict),
            "judge": said,
            "chains": answer.chains.iter().map(chain).collect::<Vec<_>>(),
        });
        if let Some(bytes) = name.path_bytes {
            value["path_bytes"] = bytes.into();
        }
        value
    };
    let list: Vec<serde_json::Value> = answers.iter().map(object).collect();
    format!("{:#}\n", serde_json::json!({ "objects": list }))
}
