//! Plain data about host objects: what a census finds, what evidence says of it, what a report prints.
//!
//! Nothing here refers to a live object: an image can be stored, compared and printed after its object is gone.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use kobj_abi::{Class, EvidenceKind, HoldHow, HostKind, Strength};
use kobj_memory::{NoMemory, TryPush, try_collect};

/// Microseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

/// A file handle as `name_to_handle_at` gives it: inode and generation in the file system's own form.
///
/// Handles longer than [`FileHandle::MAX`] bytes are not kept (no file system that kobj judges has them).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileHandle {
    /// The file system's type of handle.
    pub kind: i32,
    length: u8,
    bytes: [u8; Self::MAX],
}

impl FileHandle {
    /// The longest handle that is kept, in bytes.
    pub const MAX: usize = 32;

    /// A handle of that type and those bytes; `None` if it is too long to keep.
    #[must_use]
    pub fn new(kind: i32, source: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..source.len())?.copy_from_slice(source);
        Some(Self { kind, length: source.len() as u8, bytes })
    }

    /// The handle's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// 64 bits that tell this handle from others of its file system: FNV-1a over type and bytes.
    ///
    /// For printing and for a person's `--identity`; decisions compare whole handles.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = self.kind.to_le_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
        self.bytes().iter().fold(hash, step)
    }
}

impl fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileHandle({}, {:02x?})", self.kind, self.bytes())
    }
}

/// What survives reuse of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A file, folder, socket or device node; also what has an inode in a kernel file system (sockets, namespaces).
    File {
        /// The mount's device number (`st_dev`).
        device: u64,
        /// The inode number.
        inode: u64,
        /// Inode and generation; `None` where the file system gives none.
        handle: Option<FileHandle>,
        /// Birth time where the file system has it.
        born: Option<Time>,
    },
    /// System V objects, and what the kernel numbers: mounts (unique mount id), interfaces (index), devices.
    Ipc {
        /// The kernel's id; for System V it contains the sequence number.
        id: i64,
        /// The System V key, else 0.
        key: i64,
        /// The creator's user id.
        uid: u32,
    },
    /// A process.
    Process {
        /// Process id in kobj's PID namespace.
        pid: u32,
        /// Start time in clock ticks since boot, as `/proc/PID/stat` says.
        started: u64,
    },
}

/// `file-DEV-INO-GENERATION-BORN`, `id-ID-KEY-UID` or `pid-PID-STARTED`, numbers in hexadecimal: what `--identity` takes.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { device, inode, handle, born } => {
                let generation = handle.as_ref().map_or(0, FileHandle::digest);
                write!(f, "file-{device:x}-{inode:x}-{generation:x}-{:x}", born.map_or(0, |t| t.0))
            }
            Self::Ipc { id, key, uid } => write!(f, "id-{id:x}-{key:x}-{uid:x}"),
            Self::Process { pid, started } => write!(f, "pid-{pid:x}-{started:x}"),
        }
    }
}

/// Who made an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creator {
    /// Its process id then.
    pub pid: u32,
    /// Its command name, as bytes.
    pub command: Vec<u8>,
    /// When, where a layer says it.
    pub at: Option<Time>,
}

/// Who uses an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Command name, as bytes.
    pub command: Vec<u8>,
    /// In which way.
    pub how: HoldHow,
}

/// One reason to believe something about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What it rests on.
    pub kind: EvidenceKind,
    /// Whether it allows a deletion.
    pub strength: Strength,
    /// One clause for people: `made by pid 4702 (train.py) between 10:00:00.120 and 10:00:00.124`.
    pub detail: String,
}

/// A host object as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostImage {
    /// What it is.
    pub kind: HostKind,
    /// What a person calls it: path, id, `@abstract`, pid.
    pub name: Vec<u8>,
    /// What survives reuse of the name.
    pub identity: Identity,
    /// Runtime, temporary or output.
    pub class: Class,
    /// Size in bytes where it has one (a folder: of its whole tree).
    pub size: Option<u64>,
    /// Entries in a folder's tree; 0 for all else.
    pub entries: u64,
    /// The owning user, where there is one.
    pub uid: Option<u32>,
    /// The creator's pid that the kernel itself keeps (System V shared memory), and nothing inferred.
    pub maker_pid: Option<u32>,
    /// Who made it, once attributed.
    pub creator: Option<Creator>,
    /// Who uses it.
    pub holders: Vec<Holder>,
    /// Why we believe so.
    pub evidence: Vec<Evidence>,
}

impl HostImage {
    /// An image with what a look gives at once: no creator, holders or evidence yet.
    #[must_use]
    pub fn new(kind: HostKind, name: Vec<u8>, identity: Identity) -> Self {
        Self {
            kind,
            name,
            identity,
            class: kind.class(),
            size: None,
            entries: 0,
            uid: None,
            maker_pid: None,
            creator: None,
            holders: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// A copy.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_clone(&self) -> Result<Self, NoMemory> {
        let bytes = |bytes: &[u8]| try_collect(bytes.iter().copied());
        let mut copy = Self::new(self.kind, bytes(&self.name)?, self.identity);
        (copy.class, copy.size, copy.entries) = (self.class, self.size, self.entries);
        (copy.uid, copy.maker_pid) = (self.uid, self.maker_pid);
        if let Some(creator) = &self.creator {
            copy.creator = Some(Creator { pid: creator.pid, command: bytes(&creator.command)?, at: creator.at });
        }
        for holder in &self.holders {
            let command = bytes(&holder.command)?;
            copy.holders.try_push(Holder { pid: holder.pid, command, how: holder.how })?;
        }
        for evidence in &self.evidence {
            let mut detail = String::new();
            detail.try_reserve_exact(evidence.detail.len()).map_err(|_| NoMemory)?;
            detail.push_str(&evidence.detail);
            copy.evidence.try_push(Evidence { kind: evidence.kind, strength: evidence.strength, detail })?;
        }
        Ok(copy)
    }

    /// Whether any evidence about who made it is proof.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.evidence.iter().any(|e| e.strength == Strength::Proof && e.kind != EvidenceKind::Unused)
    }
}
