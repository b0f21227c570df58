//! Reading a record: bytes in, contents or an error out. The bytes may be cut, old or hostile.

use super::layout::{self, Text, word};
use crate::family::{PID_LIMIT, PidSet};
use crate::hands::ClosedSegment;
use crate::makers::{Count, Made};
use kobj_abi::{Koid, Layer, Strength};
use kobj_core::image::{FileHandle, Identity, Time};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// What a record says.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The job.
    pub koid: Koid,
    /// The job around it.
    pub parent: Option<Koid>,
    /// kobj's own process id and start time in clock ticks since boot.
    pub keeper: (u32, u64),
    /// The same of the command; `None` if it was not started yet.
    pub command: Option<(u32, u64)>,
    /// The boot's id.
    pub boot: [u64; 2],
    /// The inode of the PID namespace in which all numbers have their meaning.
    pub pid_namespace: u64,
    /// The effective user id of kobj.
    pub uid: u32,
    /// Two words of the command's own: scrub level and the like.
    pub settings: [u64; 2],
    /// When the run began; wall time.
    pub started: Time,
    /// Up to when events were read and written down; wall time. Of anything made later the record says nothing.
    pub last_event: Time,
    /// When the command ended; wall time.
    pub ended: Option<Time>,
    /// Whether the run was ended and reported: its control group alone is left, because of processes in use.
    pub settled: bool,
    /// Whether an event was lost, or some of it did not fit in the record.
    pub lost: bool,
    /// The layers in use.
    pub layers: Vec<Layer>,
    /// How many living creations were not followed.
    pub not_followed: u64,
    /// How many processes began and ended.
    pub processes: (u64, u64),
    /// What was made and destroyed, by [`crate::makers::Group`].
    pub counts: [Count; 4],
    /// The job's name; empty if none was given.
    pub name: Vec<u8>,
    /// The path of its control group; empty if there is none.
    pub group: Vec<u8>,
    /// The cookie in its processes' environment, `NAME=VALUE`.
    pub cookie: Vec<u8>,
    /// The command and its arguments, cut to 2 KiB.
    pub command_line: Vec<Vec<u8>>,
    /// Device and inode of what the command inherited from outside: the lowest descriptors' only, if there were many.
    pub inherited: Vec<(u64, u64)>,
    /// What the command was told, in the form of whoever wrote it; `None` if that did not fit.
    pub told: Option<Vec<u8>>,
    /// A System V segment that a broken-off scrub may have closed, and the IPC namespace in which it has its id.
    pub closed_segment: Option<(ClosedSegment, u64)>,
    /// Private folders that may hold files of a scrub that was broken off.
    pub notes: Vec<PathBuf>,
    /// Numbers that were ever the job's.
    pub ours: PidSet,
    /// Numbers that were ever somebody else's since the run began.
    pub foreign: PidSet,
    /// Living creations.
    pub creations: HashMap<(u64, FileHandle), Made>,
}

impl Contents {
    /// Who made the object of that identity; the strength takes its birth time into account.
    #[must_use]
    pub fn of(&self, identity: &Identity) -> Option<Made> {
        let Identity::File { device, handle: Some(handle), born, .. } = identity else { return None };
        let mut made = self.creations.get(&(*device, *handle))?.clone();
        made.strength = made.strength_if_born(*born);
        Some(made)
    }

    /// Whether the process `pid`, which the kernel keeps as an object's creator, was the job's: by proof only if no event
    /// was lost and the number was nobody else's up to [`Contents::last_event`].
    #[must_use]
    pub fn made_by_pid(&self, pid: u32) -> Option<Strength> {
        let alone = !self.lost && !self.foreign.contains(pid);
        self.ours.contains(pid).then_some(if alone { Strength::Proof } else { Strength::Hint })
    }
}

/// An inode, by device and handle, and who made it.
type Slot = ((u64, FileHandle), Made);

/// Reads a whole record file. Parts beyond the end of `bytes` are as if never written.
///
/// # Errors
/// A sentence: what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Contents, String> {
    let file = File { bytes };
    if bytes.len() > layout::END {
        return Err("is longer than any record".to_owned());
    }
    if file.header(word::MAGIC) != layout::MAGIC {
        return Err("is not a record of kobj".to_owned());
    }
    let version = file.header(word::VERSION);
    if version != layout::VERSION {
        return Err(format!("has version {version}; this kobj reads version {}", layout::VERSION));
    }
    if file.header(word::LAYOUT) != layout::checksum() {
        return Err("has another layout than its version says".to_owned());
    }
    if file.header(word::VALID) != 1 {
        return Err("was not finished".to_owned());
    }
    let koid = Koid::from_raw(file.header(word::KOID)).ok_or("has no job")?;
    let started = file.time(word::STARTED)?;
    let ended = file.header(word::ENDED);
    Ok(Contents {
        koid,
        parent: Koid::from_raw(file.header(word::PARENT)),
        keeper: (file.pid(word::KEEPER_PID)?, file.header(word::KEEPER_STARTED)),
        command: match file.pid(word::COMMAND_PID)? {
            0 => None,
            pid => Some((pid, file.header(word::COMMAND_STARTED))),
        },
        boot: [file.header(word::BOOT), file.header(word::BOOT + 1)],
        pid_namespace: file.header(word::PID_NAMESPACE),
        uid: u32::try_from(file.header(word::USER)).map_err(|_| "has an impossible user")?,
        settings: [file.header(word::SETTINGS), file.header(word::SETTINGS + 1)],
        started,
        last_event: file.time(word::LAST_EVENT)?,
        ended: if ended == 0 { None } else { Some(file.time(word::ENDED)?) },
        settled: file.header(word::SETTLED) != 0,
        lost: file.header(word::LOST) != 0,
        layers: layers(file.header(word::LAYERS)),
        not_followed: file.header(word::NOT_FOLLOWED),
        processes: (file.header(word::PROCESSES), file.header(word::PROCESSES + 1)),
        counts: std::array::from_fn(|group| Count {
            created: file.header(word::COUNTS + group * 2),
            destroyed: file.header(word::COUNTS + group * 2 + 1),
        }),
        name: file.text(layout::NAME)?.to_vec(),
        group: file.text(layout::GROUP)?.to_vec(),
        cookie: file.text(layout::COOKIE)?.to_vec(),
        command_line: arguments(file.text(layout::COMMAND_LINE)?),
        inherited: file.inherited()?,
        told: Some(file.sized(layout::TOLD_AT, layout::TOLD.bytes)?.to_vec()).filter(|told| !told.is_empty()),
        closed_segment: file.closed_segment(),
        notes: (0..layout::NOTES).filter_map(|index| file.note(index).transpose()).collect::<Result<_, _>>()?,
        ours: file.pids(layout::OURS_AT),
        foreign: file.pids(layout::FOREIGN_AT),
        creations: file.creations()?,
    })
}

/// Whether these are the bytes of a record whose kobj ended while it wrote the beginning: nothing was done yet that it
/// could tell of. A record of another version is none of ours to call unfinished.
pub(super) fn is_unfinished(bytes: &[u8]) -> bool {
    let file = File { bytes };
    let ours = |place, value| [0, value].contains(&file.header(place));
    // Room is reserved in one piece: the file is empty or has all of its header.
    let length = bytes.is_empty() || bytes.len() >= layout::PAGE;
    length && ours(word::MAGIC, layout::MAGIC) && ours(word::VERSION, layout::VERSION) && file.header(word::VALID) == 0
}

fn layers(bits: u64) -> Vec<Layer> {
    Layer::ALL.into_iter().filter(|layer| bits >> (*layer as u8) & 1 == 1).collect()
}

fn arguments(text: &[u8]) -> Vec<Vec<u8>> {
    if text.is_empty() { Vec::new() } else { text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() }
}

struct File<'a> {
    bytes: &'a [u8],
}

impl<'a> File<'a> {
    /// The word at byte `offset`; 0 beyond the end.
    fn word(&self, offset: usize) -> u64 {
        let eight = self.bytes.get(offset..offset.saturating_add(8)).and_then(|eight| eight.try_into().ok());
        eight.map_or(0, u64::from_le_bytes)
    }

    fn header(&self, word: usize) -> u64 {
        self.word(word * 8)
    }

    fn pid(&self, word: usize) -> Result<u32, String> {
        let pid = u32::try_from(self.header(word)).ok().filter(|pid| *pid < PID_LIMIT);
        pid.ok_or_else(|| "has an impossible process id".to_owned())
    }

    fn time(&self, word: usize) -> Result<Time, String> {
        time(self.header(word)).ok_or_else(|| "has an impossible time".to_owned())
    }

    /// `length` bytes from `offset`, after the word there that says how many; at most `limit`.
    fn sized(&self, offset: usize, limit: usize) -> Result<&'a [u8], String> {
        let length = usize::try_from(self.word(offset)).ok().filter(|length| *length <= limit);
        let length = length.ok_or("has a text longer than its place")?;
        self.bytes
            .get(offset + 8..offset + 8 + length)
            .ok_or_else(|| "ends within a text".to_owned())
            .or_else(|why| if length == 0 { Ok(&[]) } else { Err(why) })
    }

    fn text(&self, text: Text) -> Result<&'a [u8], String> {
        self.sized(text.word * 8, text.bytes)
    }

    fn inherited(&self) -> Result<Vec<(u64, u64)>, String> {
        let count =
            usize::try_from(self.header(layout::INHERITED)).ok().filter(|count| *count <= layout::INHERITED_MAX);
        let count = count.ok_or("has more inherited objects than any record")?;
        let at = |index: usize| layout::INHERITED + 1 + index * 2;
        Ok((0..count).map(|index| (self.header(at(index)), self.header(at(index) + 1))).collect())
    }

    fn closed_segment(&self) -> Option<(ClosedSegment, u64)> {
        let [first, second] = [0, 1].map(|index| self.header(word::SEGMENT + index));
        let segment = ClosedSegment {
            id: first as u32 as i32,
            mode: (first >> 32) as u16,
            key: second as u32 as i32,
            creator_uid: (second >> 32) as u32,
        };
        (first & layout::SEGMENT_CLOSED != 0).then(|| (segment, self.header(word::SEGMENT + 2)))
    }

    fn note(&self, index: usize) -> Result<Option<PathBuf>, String> {
        let path = self.sized(layout::NOTES_AT + index * layout::PAGE, layout::PAGE - 8)?;
        let good = path.is_empty() || path.first() == Some(&b'/') && !path.contains(&0);
        if !good {
            return Err("has a note that is no path".to_owned());
        }
        Ok((!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path))))
    }

    fn pids(&self, offset: usize) -> PidSet {
        let end = self.bytes.len().min(offset + layout::PIDS_BYTES);
        let mut words: Vec<u64> = (offset..end).step_by(8).map(|at| self.word(at)).collect();
        let used = words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        words.truncate(used);
        PidSet::from_words(words)
    }

    fn creations(&self) -> Result<HashMap<(u64, FileHandle), Made>, String> {
        let slots = usize::try_from(self.header(word::SLOTS)).ok().filter(|slots| *slots <= layout::SLOTS);
        let slots = slots.ok_or("has more slots than any record")?;
        let there = self.bytes.len().saturating_sub(layout::SLOTS_AT) / layout::SLOT_BYTES;
        let mut creations = HashMap::new();
        for index in 0..slots.min(there) {
            if let Some((key, made)) = self.slot(layout::SLOTS_AT + index * layout::SLOT_BYTES)? {
                creations.insert(key, made);
            }
        }
        Ok(creations)
    }

    fn slot(&self, at: usize) -> Result<Option<Slot>, String> {
        let first = self.word(at);
        let strength = match first & 0xff {
            layout::FREE => return Ok(None),
            layout::PROOF => Strength::Proof,
            layout::HINT => Strength::Hint,
            state => return Err(format!("has a slot in state {state}")),
        };
        let length = (first >> 8 & 0xff) as usize;
        let bytes = self.bytes.get(at + 16..at + 48).and_then(|room| room.get(..length));
        let handle = bytes.and_then(|bytes| FileHandle::new((first >> 16 & 0xffff) as i32, bytes));
        let handle = handle.ok_or("has an impossible file handle")?;
        let pid = u32::try_from(first >> 32).ok().filter(|pid| *pid < PID_LIMIT).ok_or("has an impossible maker")?;
        let start = time(self.word(at + 48)).ok_or("has an impossible time")?;
        let last = self.word(at + 56);
        let layer = Layer::from_number((last >> 48 & 0xff) as u8).ok_or("has an unknown layer")?;
        let made = Made {
            pid,
            command: self.command((last >> 32 & 0xffff) as usize)?,
            window_start: start,
            window_end: Time(start.0.saturating_add((last & 0xffff_ffff) as i64)),
            strength,
            layer,
            // Nobody heard since whether it ended and its number was given again.
            is_birth: false,
        };
        Ok(Some(((self.word(at + 8), handle), made)))
    }

    fn command(&self, index: usize) -> Result<Arc<[u8]>, String> {
        if index >= layout::COMMANDS {
            return Err("has an impossible command".to_owned());
        }
        let entry = layout::COMMANDS_AT + index * layout::COMMAND_BYTES;
        Ok(self.sized(entry, layout::COMMAND_BYTES - 8)?.into())
    }
}

/// A time before the year 10000, so that sums of times never overflow.
fn time(raw: u64) -> Option<Time> {
    i64::try_from(raw).ok().filter(|time| *time < 253_402_300_800_000_000).map(Time)
}
