//! What is known of one entry, for `kobj show`: each fact as lines for people and as JSON.

use super::{Entry, Thing, World, directories, path_of, path_of_job};
use crate::commands::census::{judge, use_word};
use crate::commands::records::Job;
use crate::report::schema::{CreatorRow, EvidenceRow, HolderRow, NameRow};
use crate::report::text::{human_size, shown_name};
use crate::report::{escape, time};
use kobj_abi::{HostKind, ObjectType, Rights, Tag};
use kobj_core::image::{Evidence, Holder, HostImage};
use kobj_host::holders::Holders;
use kobj_host::kind::Verdict;
use kobj_host::kinds;
use kobj_host::makers::Group;
use kobj_host::members::Member;
use kobj_host::proc::Proc;
use kobj_host::record::Contents;
use serde_json::{Value, json};

/// One thing that is known of an object.
pub(crate) struct Fact {
    /// Which.
    pub(crate) label: &'static str,
    /// In words, safe for a terminal; empty where it is not shown to people.
    pub(crate) lines: Vec<String>,
    /// The same as JSON.
    pub(crate) value: Value,
}

fn fact(label: &'static str, lines: Vec<String>, value: Value) -> Fact {
    Fact { label, lines, value }
}

fn word(label: &'static str, text: &str) -> Fact {
    fact(label, vec![escape::for_terminal(text.as_bytes())], text.into())
}

fn number(label: &'static str, number: u64) -> Fact {
    fact(label, vec![number.to_string()], number.into())
}

/// A name, with its bytes beside it in JSON where they are not UTF-8.
fn bytes(label: &'static str, bytes: &[u8]) -> Fact {
    let row = NameRow::new(bytes);
    let value = match row.path_bytes {
        Some(raw) => json!({ "text": row.name, "bytes": raw }),
        None => row.name.into(),
    };
    fact(label, vec![escape::for_terminal(bytes)], value)
}

/// Paths of the tree.
fn links(label: &'static str, paths: &[Vec<u8>]) -> Option<Fact> {
    let texts: Vec<String> = paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    let lines = paths.iter().map(|path| escape::for_terminal(path)).collect();
    (!paths.is_empty()).then(|| fact(label, lines, json!(texts)))
}

/// Everything that is known of the entry, in the order in which it is shown.
pub(crate) fn facts<'w>(world: &'w World, entry: &Entry<'w>) -> Vec<Fact> {
    let mut facts = vec![bytes("path", &entry.path), word("type", entry.thing.type_name())];
    match &entry.thing {
        Thing::Directory => {}
        Thing::Job(job) => of_job(world, job, &mut facts),
        Thing::Process(job, member) => of_process(world, job, member, &mut facts),
        Thing::Made(image) | Thing::Host(image) | Thing::Held(image, _) => of_host(world, image, &mut facts),
        Thing::ObjectType(object_type) => of_type(world, *object_type, &mut facts),
        Thing::HostKind(kind) => of_kind(world, *kind, &mut facts),
    }
    if let Some(inside) = &entry.inside {
        inside.tell_not_visible(world);
        let count = inside.count(world);
        let shown = count.map_or_else(|| "not all can be seen".to_owned(), |count| count.to_string());
        facts.push(fact("entries", vec![shown], json!(count)));
    }
    facts
}

fn of_job(world: &World, job: &Job, facts: &mut Vec<Fact>) {
    facts.push(number("number", job.number as u64));
    facts.push(word("state", job.state(&world.view)));
    facts.push(bytes("record", job.record.path.as_os_str().as_encoded_bytes()));
    let contents = match &job.record.contents {
        Ok(contents) => contents,
        Err(why) => return facts.push(word("unreadable", why)),
    };
    facts.push(word("koid", &contents.koid.to_string()));
    facts.push(word("tag", &Tag { letters: ObjectType::Job.letters(), koid: contents.koid }.to_string()));
    facts.push(bytes("name", &job.label()));
    facts.push(bytes("command", &contents.command_line.join(&b' ')));
    if let Some((pid, _)) = contents.command {
        facts.push(number("pid", pid.into()));
    }
    facts.push(number("keeper", contents.keeper.0.into()));
    facts.push(fact("owner", vec![user(world, contents.uid)], contents.uid.into()));
    facts.push(word("started", &time::print(contents.started)));
    facts.extend(contents.ended.map(|ended| word("ended", &time::print(ended))));
    facts.push(word("last_event", &time::print(contents.last_event)));
    if !contents.group.is_empty() {
        facts.push(bytes("control_group", &contents.group));
    }
    let layers: Vec<&str> = contents.layers.iter().map(|layer| layer.name()).collect();
    facts.push(fact("tracing", vec![layers.join(", ")], json!(layers)));
    facts.push(fact("complete", vec![if contents.lost { "no" } else { "yes" }.into()], json!(!contents.lost)));
    facts.push(balance(contents));
    let paths = |jobs: Vec<&Job>| jobs.into_iter().map(path_of_job).collect::<Vec<_>>();
    let outer = contents.parent.and_then(|koid| world.job_of(koid));
    facts.extend(links("inside", &paths(outer.into_iter().collect())));
    let is_inner = |other: &&Job| other.record.contents.as_ref().is_ok_and(|it| it.parent == Some(contents.koid));
    facts.extend(links("inner_jobs", &paths(world.jobs.iter().filter(is_inner).collect())));
}

fn user(world: &World, uid: u32) -> String {
    escape::for_terminal(&world.users().name(uid))
}

/// What was made and destroyed up to now.
fn balance(contents: &Contents) -> Fact {
    let mut rows = vec![("process", contents.processes)];
    for (group, kind) in [
        (Group::Segment, "segment"),
        (Group::Semaphore, "posix-semaphore"),
        (Group::Folder, "folder"),
        (Group::Other, "other file"),
    ] {
        let count = contents.counts[group as usize];
        rows.push((kind, (count.created, count.destroyed)));
    }
    let line = |(kind, (created, destroyed)): &(&str, (u64, u64))| {
        format!("{kind}: {created} made, {destroyed} gone, {} left", created.saturating_sub(*destroyed))
    };
    let value = |(kind, (created, destroyed)): &(&str, (u64, u64))| json!({ "kind": kind, "created": created, "destroyed": destroyed, "live": created.saturating_sub(*destroyed) });
    let is_used = |(_, counts): &&(&str, (u64, u64))| *counts != (0, 0);
    fact("balance", rows.iter().filter(is_used).map(line).collect(), rows.iter().map(value).collect())
}

fn of_process(world: &World, job: &Job, member: &Member, facts: &mut Vec<Fact>) {
    let image = member.image();
    facts.push(number("pid", member.pid.into()));
    facts.push(bytes("command", &member.command));
    facts.push(word("identity", &image.identity.to_string()));
    let stat = Proc::open(&world.view.proc).ok().and_then(|proc| proc.life(member.pid).ok()?.stat());
    match stat.filter(|stat| stat.started == member.started) {
        Some(stat) => {
            facts.push(word("process_state", &char::from(stat.state).to_string()));
            facts.push(number("parent", stat.parent.into()));
            facts.push(number("threads", stat.threads.into()));
        }
        None => facts.push(word("process_state", "it is gone by now")),
    }
    facts.extend(links("job", &[path_of_job(job)]));
    facts.push(evidence(&image.evidence));
    let held: Vec<_> = world.held_by(member.pid).into_iter().map(|(image, _)| path_of(image)).collect();
    facts.extend(links("holds", &held));
    facts.extend(links("links", &[path_of(&image)]));
}

fn of_host(world: &World, image: &HostImage, facts: &mut Vec<Fact>) {
    // What a run's record says of the very same object.
    let makers: Vec<(&Job, &HostImage)> = world
        .jobs
        .iter()
        .filter_map(|job| {
            let same = |made: &&HostImage| made.kind == image.kind && made.identity == image.identity;
            Some((job, world.made(job).iter().find(same)?))
        })
        .collect();
    facts.push(fact("name", vec![shown_name(image.kind, &image.name)], bytes("name", &image.name).value));
    facts.push(word("identity", &image.identity.to_string()));
    facts.push(word("class", image.class.name()));
    facts.extend(image.size.map(|size| fact("size", vec![human_size(size)], size.into())));
    if image.entries > 0 {
        facts.push(number("files_in_it", image.entries));
    }
    facts.extend(image.uid.map(|uid| fact("owner", vec![user(world, uid)], uid.into())));
    facts.extend(world.ages().of(image).map(|age| fact("age_s", vec![format!("{age} s")], age.into())));
    let verdict = judge(&world.view, image);
    let said = match &verdict {
        Verdict::Unused(words) | Verdict::InUse(_, words) | Verdict::Unknown(words) => words.as_str(),
        Verdict::Gone => "it is gone by now",
        Verdict::Replaced => "its name leads to another object by now",
    };
    let word_of_use = use_word(&verdict);
    let line = format!("{word_of_use}: {}", escape::for_terminal(said.as_bytes()));
    facts.push(fact("use", vec![line], json!({ "use": word_of_use, "judge": said })));
    let creator = makers.iter().find_map(|(_, made)| made.creator.clone());
    match (creator, image.maker_pid.filter(|pid| *pid != 0)) {
        (Some(creator), _) => {
            let at = creator.at.map_or(String::new(), |at| format!(", {}", time::print(at)));
            let line = format!("{} {}{at}", creator.pid, escape::for_terminal(&creator.command));
            facts.push(fact("creator", vec![line], json!(CreatorRow::from(&creator))));
        }
        (None, Some(pid)) => facts.push(fact("creator", vec![pid.to_string()], json!({ "pid": pid }))),
        (None, None) => facts.push(fact("creator", vec!["not known".into()], Value::Null)),
    }
    let said: Vec<Evidence> = makers.iter().flat_map(|(_, made)| made.evidence.clone()).collect();
    facts.push(evidence(&said));
    let holders = Holders::of_trees(&world.view, std::slice::from_ref(image));
    facts.push(held_by(&holders));
    let made_in = makers.iter().map(|(job, _)| path_of_job(job)).collect::<Vec<_>>();
    facts.extend(links("made_in", &made_in));
    let pids: Vec<u32> = holders.of_object(0).iter().map(|holder| holder.pid).collect();
    let is_it = |member: &Member| member.image().identity == image.identity;
    let of_jobs = world.jobs.iter().flat_map(|job| world.members(job).iter().map(move |member| (job, member)));
    let processes = of_jobs.filter(|(_, member)| pids.contains(&member.pid) || is_it(member));
    let paths: Vec<Vec<u8>> = processes
        .map(|(job, member)| [path_of_job(job), format!("/processes/{}", member.pid).into_bytes()].concat())
        .collect();
    facts.extend(links("links", &paths));
    let end = kinds::facts(image.kind).map_or("it stays until somebody deletes it", |facts| facts.end);
    facts.push(word("ends", end));
}

fn evidence(list: &[Evidence]) -> Fact {
    let line = |evidence: &Evidence| {
        let detail = escape::for_terminal(evidence.detail.as_bytes());
        format!("{} ({}): {detail}", evidence.kind.name(), evidence.strength.name())
    };
    let lines = if list.is_empty() { vec!["none of a run".to_owned()] } else { list.iter().map(line).collect() };
    fact("evidence", lines, list.iter().map(|evidence| json!(EvidenceRow::from(evidence))).collect())
}

fn held_by(holders: &Holders) -> Fact {
    let found = holders.of_object(0);
    let line =
        |holder: &Holder| format!("{} {} ({})", holder.pid, escape::for_terminal(&holder.command), holder.how.name());
    let mut lines: Vec<String> = found.iter().map(line).collect();
    match (holders.unreadable, found.is_empty()) {
        (0, true) => lines.push("nobody".into()),
        (0, false) => {}
        (1, _) => lines.push("1 process could not be looked into: what it holds is not known".into()),
        (many, _) => lines.push(format!("{many} processes could not be looked into: what they hold is not known")),
    }
    let rows: Vec<HolderRow> = found.iter().map(HolderRow::from).collect();
    fact("holders", lines, json!({ "processes": rows, "unreadable": holders.unreadable }))
}

fn of_type(world: &World, object_type: ObjectType, facts: &mut Vec<Fact>) {
    facts.push(word("name", object_type.name()));
    facts.push(number("number", u64::from(object_type.number().0)));
    facts.push(word("letters", &String::from_utf8_lossy(&object_type.letters())));
    facts.push(rights(object_type.default_rights()));
    let count = directories::count_of_type(world, object_type);
    let none = "cannot be seen: such objects are in the managers that programs embed";
    let shown = count.map_or_else(|| none.to_owned(), |count| count.to_string());
    facts.push(fact("count", vec![shown], json!(count)));
}

/// What the handle of whoever makes such an object allows: generic rights by name, a type's own by their bits.
fn rights(rights: Rights) -> Fact {
    let named: Vec<&str> = rights.generic_names().collect();
    let own = rights.without(Rights::GENERIC);
    let own = if own.is_empty() { String::new() } else { format!(" and its own ({:08x})", own.bits()) };
    let value = json!({ "bits": format!("{:08x}", rights.bits()), "generic": named });
    fact("rights", vec![format!("{}{own}", named.join(", "))], value)
}

fn of_kind(world: &World, kind: HostKind, facts: &mut Vec<Fact>) {
    facts.push(word("name", kind.name()));
    facts.push(number("number", kind as u64));
    facts.push(word("class", kind.class().name()));
    world.tell_kind(kind);
    let count = world.count_of_kind(kind);
    let shown = count.map_or_else(|| "not all can be seen".to_owned(), |count| count.to_string());
    facts.push(fact("count", vec![shown], json!(count)));
    let bytes: u64 = world.of_kind(kind).iter().filter_map(|image| image.size).sum();
    facts.push(fact("bytes", vec![human_size(bytes)], bytes.into()));
    if let Some(known) = kinds::facts(kind) {
        facts.push(word("ends", known.end));
    }
    let directory = [&b"/host/"[..], &super::folder_name(kind)].concat();
    facts.extend(links("links", &[directory]));
}
