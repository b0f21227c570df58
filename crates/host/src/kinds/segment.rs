//! Shared-memory segments: regular files in the segment folders.
//!
//! Judge: the write lease, which counts mappings whose descriptors were closed.

use crate::kinds::judged_file::{self, JudgedFile};
use kobj_abi::HostKind;

/// This kind.
pub static SEGMENT: JudgedFile = JudgedFile {
    kind: HostKind::Segment,
    objection: judged_file::no_objection,
    end: "it stays until somebody unlinks its name or the machine restarts",
};
