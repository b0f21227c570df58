//! The report as data: `kobj.report/1`. Names are stable; a field is only ever added.

use super::identity::IdentityRow;
use super::{base64, escape, time};
use kobj_abi::{Class, EvidenceKind, HoldHow, HostKind, Layer, Strength, Tag};
use kobj_core::image::{Creator, Evidence, Holder, HostImage, Identity, Time};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The value of the field `schema`.
pub(crate) const SCHEMA: &str = "kobj.report/1";

/// A report: all that one job left, and the balance of what it made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: Cow<'static, str>,
    /// The job itself.
    pub(crate) job: JobRow,
    /// One row per kind.
    pub(crate) balance: Vec<BalanceRow>,
    /// What outlived the job and is proved to be its own.
    pub(crate) stragglers: Vec<Straggler>,
    /// What appeared meanwhile and is nobody's by proof.
    pub(crate) unattributed: Vec<Straggler>,
    /// What the job was meant to leave; `None` where no layer sees it.
    pub(crate) outputs: Option<Outputs>,
    /// Kinds that this mode cannot see.
    pub(crate) not_visible: Vec<NotVisible>,
}

impl Report {
    /// An empty report about that job.
    pub(crate) fn new(job: JobRow) -> Self {
        Self {
            schema: SCHEMA.into(),
            job,
            balance: Vec::new(),
            stragglers: Vec::new(),
            unattributed: Vec::new(),
            outputs: None,
            not_visible: Vec::new(),
        }
    }

    /// Whether anything is left that a person should hear of: kept things are, ignored ones are not.
    pub(crate) fn has_news(&self) -> bool {
        self.stragglers.iter().chain(&self.unattributed).any(|row| row.action != Action::Ignored)
    }

    /// What `--fail-on-stragglers` asks: any proved straggler, ended and scrubbed ones included, kept and ignored not.
    pub(crate) fn has_proved_stragglers(&self) -> bool {
        self.stragglers.iter().any(|row| !matches!(row.action, Action::Kept | Action::Ignored))
    }

    /// The whole report as JSON, pretty, with a newline at the end.
    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a report has string keys only");
        text.push('\n');
        text
    }

    /// The same on one line, for those who read it back.
    pub(crate) fn to_line(&self) -> String {
        let mut text = serde_json::to_string(self).expect("a report has string keys only");
        text.push('\n');
        text
    }

    /// Reads a report back. Fields that a later version added are passed over; another schema is an error.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(bytes).map_err(|e| format!("not a report of kobj: {e}"))?;
        if report.schema != SCHEMA {
            return Err(format!("its schema is '{}', and this kobj reads '{SCHEMA}'", report.schema));
        }
        Ok(report)
    }
}

/// The job of a report; inner jobs have the same shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRow {
    /// The job's koid, as printed.
    pub(crate) koid: String,
    /// The job's tag, as printed.
    pub(crate) tag: String,
    /// `--name`, or null.
    pub(crate) name: Option<String>,
    /// The command and its arguments; lossy where they are not UTF-8.
    pub(crate) command: Vec<String>,
    /// The same as base64, only where one of them is not UTF-8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command_bytes: Vec<String>,
    /// When the command was started.
    #[serde(with = "micros")]
    pub(crate) started: Time,
    /// When it was over, leftover processes included; null while it runs.
    #[serde(with = "micros_or_null")]
    pub(crate) ended: Option<Time>,
    /// How the command ended; null if that is not known (kobj was killed first).
    pub(crate) exit: Option<Exit>,
    /// How the job was held together.
    pub(crate) containment: Containment,
    /// The layers in use.
    #[serde(with = "layers")]
    pub(crate) tracing: Vec<Layer>,
    /// Nothing was lost on the way.
    pub(crate) complete: bool,
    /// What was lost, else empty.
    pub(crate) incomplete_because: Vec<String>,
    /// Standing limits of this mode: layers that could not be had, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<String>,
    /// Why the run could not have been taken up again after a SIGKILL of kobj, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) not_recoverable: Option<String>,
    /// Jobs inside this one.
    pub(crate) jobs: Vec<JobRow>,
}

impl JobRow {
    /// A complete job without inner jobs, not ended yet.
    pub(crate) fn new(tag: Tag, name: Option<String>, command: &[OsString], started: Time) -> Self {
        let all_utf8 = command.iter().all(|word| word.to_str().is_some());
        let raw = |word: &OsString| base64::encode(word.as_bytes());
        Self {
            koid: tag.koid.to_string(),
            tag: tag.to_string(),
            name,
            command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            command_bytes: if all_utf8 { Vec::new() } else { command.iter().map(raw).collect() },
            started,
            ended: None,
            exit: None,
            containment: Containment::Subreaper,
            tracing: Vec::new(),
            complete: true,
            incomplete_because: Vec::new(),
            limits: Vec::new(),
            not_recoverable: None,
            jobs: Vec::new(),
        }
    }

    /// Marks the job incomplete, once per reason.
    pub(crate) fn mark_incomplete(&mut self, because: String) {
        self.complete = false;
        if !self.incomplete_because.contains(&because) {
            self.incomplete_because.push(because);
        }
    }

    /// What people call the job: its name, else the script an interpreter was given, else the program; unescaped bytes.
    pub(crate) fn label(&self) -> Vec<u8> {
        if let Some(name) = &self.name {
            return name.clone().into_bytes();
        }
        let word = |index: usize| -> Vec<u8> {
            match self.command_bytes.get(index).and_then(|text| base64::decode(text)) {
                Some(bytes) => bytes,
                None => self.command[index].clone().into_bytes(),
            }
        };
        let base = |path: &[u8]| path.rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
        let Some(program) = (!self.command.is_empty()).then(|| base(&word(0))) else { return b"job".to_vec() };
        if !is_interpreter(&program) || self.command.len() < 2 {
            return program;
        }
        let script = word(1);
        if script.starts_with(b"-") {
            return program;
        }
        let script = base(&script);
        match script.iter().rposition(|b| *b == b'.') {
            Some(dot) if dot > 0 => script[..dot].to_vec(),
            _ => script,
        }
    }
}

/// Whether the program's name says that its first argument is what really runs.
fn is_interpreter(program: &[u8]) -> bool {
    let known: [&[u8]; 10] = [b"python", b"sh", b"bash", b"dash", b"zsh", b"perl", b"ruby", b"node", b"php", b"lua"];
    let stem_end = program.iter().rposition(|b| b.is_ascii_alphabetic()).map_or(0, |at| at + 1);
    let is_version = program[stem_end..].iter().all(|b| b.is_ascii_digit() || *b == b'.');
    is_version && known.contains(&&program[..stem_end])
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// Its exit code; 128 + signal if a signal ended it.
    pub(crate) code: i32,
    /// Whether `--timeout` passed.
    pub(crate) timed_out: bool,
}

/// How a job is held together, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Containment {
    /// Its own control group.
    Cgroup,
    /// kobj as child subreaper, cookie and ancestry.
    Subreaper,
    /// Its own namespaces.
    Isolate,
}

impl Containment {
    /// The word of the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Subreaper => "subreaper",
            Self::Isolate => "isolate",
        }
    }
}

/// The books of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BalanceRow {
    /// Which kind.
    #[serde(with = "host_kind")]
    pub(crate) kind: HostKind,
    /// Whether creations and destructions were counted from events, each by itself.
    pub(crate) exact: bool,
    /// Counted creations; null unless exact.
    pub(crate) created: Option<u64>,
    /// Counted destructions by the job itself; null unless exact.
    pub(crate) destroyed: Option<u64>,
    /// Destroyed by kobj, processes that it ended included.
    pub(crate) scrubbed: u64,
    /// Left behind.
    pub(crate) left: u64,
}

impl BalanceRow {
    /// Whether `created = destroyed + scrubbed + left`; rows that are not exact claim nothing and hold.
    pub(crate) fn holds(&self) -> bool {
        match (self.exact, self.created, self.destroyed) {
            (true, Some(created), Some(destroyed)) => {
                Some(created) == destroyed.checked_add(self.scrubbed).and_then(|sum| sum.checked_add(self.left))
            }
            (true, _, _) => false,
            (false, created, destroyed) => created.is_none() && destroyed.is_none(),
        }
    }
}

/// What the job was meant to leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outputs {
    /// How many files and folders.
    pub(crate) count: u64,
    /// Their sizes, added up.
    pub(crate) bytes: u64,
    /// Their paths, only with `--verbose`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<OutputRow>,
}

/// One file that the job was meant to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutputRow {
    /// Its path.
    #[serde(flatten)]
    pub(crate) name: NameRow,
    /// Its size in bytes.
    pub(crate) size: Option<u64>,
}

/// A kind that cannot be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotVisible {
    /// Which kind.
    #[serde(with = "host_kind")]
    pub(crate) kind: HostKind,
    /// What cannot be seen, and why.
    pub(crate) why: String,
}

/// What was done about a straggler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// A process that ended on SIGTERM.
    Terminated,
    /// A process that needed SIGKILL.
    Killed,
    /// Destroyed.
    Scrubbed,
    /// Would have been destroyed or ended, but for `--dry-run`.
    Planned,
    /// Only told: no proof, or not asked for.
    Reported,
    /// A judge or a peer refused.
    InUse,
    /// An error; `why` says which.
    Failed,
    /// `--keep`.
    Kept,
    /// `--ignore` or `--baseline`.
    Ignored,
}

impl Action {
    /// The word of the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Terminated => "terminated",
            Self::Killed => "killed",
            Self::Scrubbed => "scrubbed",
            Self::Planned => "planned",
            Self::Reported => "reported",
            Self::InUse => "in-use",
            Self::Failed => "failed",
            Self::Kept => "kept",
            Self::Ignored => "ignored",
        }
    }

    /// Whether the object is gone now.
    pub(crate) const fn is_gone(self) -> bool {
        matches!(self, Self::Terminated | Self::Killed | Self::Scrubbed)
    }
}

/// A name: a string, and its bytes beside it where they are not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameRow {
    /// The name; lossy where it is not UTF-8.
    pub(crate) name: String,
    /// The name's bytes as base64, only where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path_bytes: Option<String>,
}

impl NameRow {
    /// The row of those bytes.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { name: text.into(), path_bytes: None },
            Err(_) => {
                Self { name: String::from_utf8_lossy(bytes).into_owned(), path_bytes: Some(base64::encode(bytes)) }
            }
        }
    }

    /// The very bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self.path_bytes.as_deref().and_then(base64::decode) {
            Some(bytes) => bytes,
            None => self.name.clone().into_bytes(),
        }
    }
}

/// Who made an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreatorRow {
    /// Its process id then.
    pub(crate) pid: u32,
    /// Its command name; lossy where it is not UTF-8.
    pub(crate) command: String,
    /// When, where a layer says it.
    #[serde(with = "micros_or_null")]
    pub(crate) at: Option<Time>,
}

impl From<&Creator> for CreatorRow {
    fn from(creator: &Creator) -> Self {
        Self { pid: creator.pid, command: String::from_utf8_lossy(&creator.command).into_owned(), at: creator.at }
    }
}

/// Who uses an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HolderRow {
    /// Process id.
    pub(crate) pid: u32,
    /// Its command name; lossy where it is not UTF-8.
    pub(crate) command: String,
    /// In which way.
    #[serde(with = "hold_how")]
    pub(crate) how: HoldHow,
}

impl From<&Holder> for HolderRow {
    fn from(holder: &Holder) -> Self {
        Self { pid: holder.pid, command: String::from_utf8_lossy(&holder.command).into_owned(), how: holder.how }
    }
}

/// One reason to believe something about an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EvidenceRow {
    /// What it rests on.
    #[serde(with = "evidence_kind")]
    pub(crate) kind: EvidenceKind,
    /// Proof or hint.
    #[serde(with = "strength")]
    pub(crate) strength: Strength,
    /// One clause for people.
    pub(crate) detail: String,
}

impl From<&Evidence> for EvidenceRow {
    fn from(evidence: &Evidence) -> Self {
        Self { kind: evidence.kind, strength: evidence.strength, detail: evidence.detail.clone() }
    }
}

/// What outlived its job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Straggler {
    /// Its koid, as printed.
    pub(crate) koid: String,
    /// Its tag, as stamped.
    pub(crate) tag: String,
    /// What it is.
    #[serde(with = "host_kind")]
    pub(crate) kind: HostKind,
    /// What a person calls it.
    #[serde(flatten)]
    pub(crate) name: NameRow,
    /// What survives reuse of the name.
    pub(crate) identity: IdentityRow,
    /// Runtime or temporary.
    #[serde(with = "class")]
    pub(crate) class: Class,
    /// Bytes, or null.
    pub(crate) size: Option<u64>,
    /// Entries in a folder's tree; left out where there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) entries: u64,
    /// Who made it.
    pub(crate) creator: Option<CreatorRow>,
    /// Who uses it.
    pub(crate) holders: Vec<HolderRow>,
    /// Why we believe so.
    pub(crate) evidence: Vec<EvidenceRow>,
    /// The inner job whose it was; left out where it is the job's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) inner_job: Option<String>,
    /// What was done.
    pub(crate) action: Action,
    /// One sentence: why it was or was not scrubbed.
    pub(crate) why: String,
    /// The exact command that scrubs it, or null.
    pub(crate) fix: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Straggler {
    /// The row of an object, the tag it was stamped with, what was done and why.
    pub(crate) fn new(image: &HostImage, tag: Tag, action: Action, why: String) -> Self {
        Self {
            koid: tag.koid.to_string(),
            tag: tag.to_string(),
            kind: image.kind,
            name: NameRow::new(&image.name),
            identity: IdentityRow::from(&image.identity),
            class: image.class,
            size: image.size,
            entries: image.entries,
            creator: image.creator.as_ref().map(CreatorRow::from),
            holders: image.holders.iter().map(HolderRow::from).collect(),
            evidence: image.evidence.iter().map(EvidenceRow::from).collect(),
            inner_job: None,
            fix: (!action.is_gone() && action != Action::Ignored).then(|| fix_command(image)),
            action,
            why,
        }
    }

    /// Whether it was found, or would have been found, used by nobody.
    pub(crate) fn is_unused(&self) -> bool {
        let judged = |row: &EvidenceRow| row.kind == EvidenceKind::Unused && row.strength == Strength::Proof;
        match self.action {
            Action::Terminated | Action::Killed | Action::Scrubbed | Action::Planned => true,
            Action::InUse | Action::Failed => false,
            Action::Reported | Action::Kept | Action::Ignored => self.evidence.iter().any(judged),
        }
    }
}

/// `kobj scrub NAME --identity ID`. What has only a number is named KIND:NUMBER, since kinds number by themselves.
pub(crate) fn fix_command(image: &HostImage) -> String {
    let is_number = image.name.iter().all(u8::is_ascii_digit);
    let name = match image.identity {
        Identity::Process { pid, .. } => pid.to_string(),
        _ if is_number => format!("{}:{}", image.kind.name(), escape::for_shell(&image.name)),
        _ => escape::for_shell(&image.name),
    };
    // A name that begins with a dash would be read as a flag.
    match image.name.first() {
        Some(b'-') => format!("kobj scrub --identity {} -- {name}", image.identity),
        _ => format!("kobj scrub {name} --identity {}", image.identity),
    }
}

/// Serde for a shared enum with `name` and `from_name`.
macro_rules! by_name {
    ($module:ident, $type:ty) => {
        mod $module {
            use super::*;
            pub(super) fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(value.name())
            }
            pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<$type, D::Error> {
                let name = Cow::<str>::deserialize(deserializer)?;
                <$type>::from_name(&name)
                    .ok_or_else(|| serde::de::Error::custom(format!("unknown {} '{name}'", stringify!($module))))
            }
        }
    };
}
by_name!(host_kind, HostKind);
by_name!(class, Class);
by_name!(hold_how, HoldHow);
by_name!(evidence_kind, EvidenceKind);
by_name!(strength, Strength);

mod layers {
    use super::*;
    pub(super) fn serialize<S: Serializer>(layers: &[Layer], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(layers.iter().map(|layer| layer.name()))
    }
    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Vec<Layer>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let known = |name: &String| {
            Layer::from_name(name).ok_or_else(|| serde::de::Error::custom(format!("unknown layer '{name}'")))
        };
        names.iter().map(known).collect()
    }
}

mod micros {
    use super::*;
    pub(super) fn serialize<S: Serializer>(at: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time::print(*at))
    }
    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Time, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        time::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is not a time")))
    }
}

mod micros_or_null {
    use super::*;
    pub(super) fn serialize<S: Serializer>(at: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(time::print).serialize(serializer)
    }
    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Option<Time>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        match time::parse(&text) {
            Some(at) => Ok(Some(at)),
            None => Err(serde::de::Error::custom(format!("'{text}' is not a time"))),
        }
    }
}
