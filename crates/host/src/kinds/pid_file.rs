//! Pid files: small files that hold the number of a process.
//!
//! Judges: the process of that number, unless it started after the file was last changed; and the write lease.

use crate::kinds::judged_file::JudgedFile;
use crate::owner;
use kobj_abi::HostKind;

/// This kind.
pub static PID_FILE: JudgedFile = JudgedFile {
    kind: HostKind::PidFile,
    objection: owner::named_owner_is_gone,
    end: "it stays until somebody deletes it",
};
