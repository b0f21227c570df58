//! Temporary files: regular files made directly in a temporary folder.
//!
//! Judge: the write lease.

use crate::kinds::judged_file::{self, JudgedFile};
use kobj_abi::HostKind;

/// This kind.
pub static TEMPORARY_FILE: JudgedFile = JudgedFile {
    kind: HostKind::TemporaryFile,
    objection: judged_file::no_objection,
    end: "it stays until somebody deletes it",
};
