//! `kobj tree [PATH]`: the tree of runs, host objects and types, drawn.

use crate::report::text::human_size;
use crate::report::{base64, escape};
use crate::space::{Entry, Thing, World, how_words, resolve};
use clap::Args;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::process::ExitCode;

/// How many objects of one directory are drawn unless all are asked for; directories and kinds are few.
const ENTRIES_SHOWN: usize = 12;

/// How deep the tree is drawn at most: runs may be inside runs inside runs.
const DEPTH_MAX: usize = 64;

/// A number of levels.
fn levels(text: &str) -> Result<u16, String> {
    let levels = text.parse().ok().filter(|levels| *levels > 0);
    levels.ok_or_else(|| format!("'{text}' is no number of levels; write a whole number from 1 to 65535: 2"))
}

/// Flags of `kobj tree`.
#[derive(Debug, Args)]
pub(crate) struct TreeFlags {
    /// Where to begin
    #[arg(value_name = "PATH", default_value = "/")]
    path: OsString,
    /// How many levels to go down
    #[arg(short = 'L', long, value_name = "LEVELS", value_parser = levels)]
    level: Option<u16>,
    /// Every object of each directory, not the first dozen alone
    #[arg(short, long)]
    all: bool,
    /// As JSON
    #[arg(short = 'J', long)]
    json: bool,
}

/// Draws it; exit 1 where there is no such path.
pub(crate) fn run(flags: &TreeFlags) -> Result<ExitCode, String> {
    let world = World::new()?;
    let found = match resolve(&world, &flags.path) {
        Ok(found) => found,
        Err(sentence) => return super::say_not_found(&sentence),
    };
    let levels = flags.level.map_or(DEPTH_MAX, |level| usize::from(level).min(DEPTH_MAX));
    let drawing = Drawing { world: &world, most: if flags.all { usize::MAX } else { ENTRIES_SHOWN } };
    let roots: Vec<Node> = found.iter().map(|entry| drawing.node(entry, levels)).collect();
    if flags.json {
        let trees: Vec<Value> = roots.iter().map(Node::json).collect();
        crate::say(&format!("{:#}\n", json!({ "trees": trees })))?;
    } else {
        let mut text = String::new();
        for (entry, root) in found.iter().zip(&roots) {
            let path = escape::for_terminal(&entry.path);
            text.push_str(&root.label(&path));
            text.push('\n');
            root.draw_inside("", &mut text);
        }
        crate::say(&text)?;
    }
    world.tell_unreadable();
    Ok(ExitCode::SUCCESS)
}

/// One entry with what is drawn below it.
struct Node {
    name: Vec<u8>,
    type_name: &'static str,
    /// In a word or two.
    remark: String,
    /// How many are in it; `None` for no directory.
    count: Option<usize>,
    entries: Vec<Node>,
}

struct Drawing<'w> {
    world: &'w World,
    most: usize,
}

impl<'w> Drawing<'w> {
    fn node(&self, entry: &Entry<'w>, levels: usize) -> Node {
        let mut entries = Vec::new();
        let mut count = None;
        if let Some(inside) = &entry.inside {
            inside.tell_not_visible(self.world);
            if levels > 0 {
                let found = entry.entries(self.world);
                count = Some(found.len());
                let is_bounded = |entry: &Entry<'_>| !matches!(entry.thing, Thing::Directory | Thing::HostKind(_));
                let most = if found.iter().any(is_bounded) { self.most } else { usize::MAX };
                entries = found.iter().take(most).map(|entry| self.node(entry, levels - 1)).collect();
            } else {
                count = inside.count(self.world);
            }
        }
        let remark = remark(self.world, &entry.thing);
        Node { name: entry.name.clone(), type_name: entry.thing.type_name(), remark, count, entries }
    }
}

/// What stands behind a name, safe for a terminal.
fn remark(world: &World, thing: &Thing<'_>) -> String {
    match thing {
        Thing::Directory => String::new(),
        Thing::Job(job) => {
            let label = escape::for_terminal(&job.label());
            format!("{label}, {}", job.state(&world.view))
        }
        Thing::Process(_, member) => escape::for_terminal(&member.command),
        Thing::Held(image, how) => {
            let size = image.size.map_or(String::new(), |size| format!(", {}", human_size(size)));
            format!("{}{size}", how_words(how))
        }
        Thing::Made(image) | Thing::Host(image) => {
            let size = image.size.map(human_size);
            let command = image.name.splitn(2, |byte| *byte == b' ').nth(1);
            match (image.identity, command) {
                (kobj_core::image::Identity::Process { .. }, Some(command)) => escape::for_terminal(command),
                _ => size.unwrap_or_default(),
            }
        }
        Thing::ObjectType(object_type) => {
            crate::space::count_of_type(world, *object_type).map_or(String::new(), |count| count.to_string())
        }
        Thing::HostKind(kind) => world.count_of_kind(*kind).map_or(String::new(), |count| count.to_string()),
    }
}

impl Node {
    fn label(&self, name: &str) -> String {
        let is_drawn = !self.entries.is_empty();
        let count = self.count.filter(|_| !is_drawn).map(|count| count.to_string());
        let words: Vec<String> =
            [self.remark.clone(), count.unwrap_or_default()].into_iter().filter(|word| !word.is_empty()).collect();
        if words.is_empty() { name.to_owned() } else { format!("{name} ({})", words.join(": ")) }
    }

    fn left_out(&self) -> usize {
        self.count.filter(|_| !self.entries.is_empty()).map_or(0, |count| count.saturating_sub(self.entries.len()))
    }

    fn draw_inside(&self, indent: &str, out: &mut String) {
        let left_out = self.left_out();
        for (index, node) in self.entries.iter().enumerate() {
            let is_last = index + 1 == self.entries.len() && left_out == 0;
            let (branch, below) = if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
            out.push_str(&format!("{indent}{branch}{}\n", node.label(&escape::for_terminal(&node.name))));
            node.draw_inside(&format!("{indent}{below}"), out);
        }
        if left_out > 0 {
            out.push_str(&format!("{indent}└── and {left_out} more: --all, or kobj ls\n"));
        }
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "name": String::from_utf8_lossy(&self.name),
            "type": self.type_name,
            "remark": self.remark,
        });
        if std::str::from_utf8(&self.name).is_err() {
            value["name_bytes"] = base64::encode(&self.name).into();
        }
        if let Some(count) = self.count {
            value["count"] = count.into();
            value["entries"] = self.entries.iter().map(Self::json).collect();
        }
        value
    }
}
