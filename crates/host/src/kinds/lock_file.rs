//! Lock files: files with the name of one, or with an advisory lock on them.
//!
//! Judges: the process named in it, with its start time; and the write lease. A lock of any family needs an open file, so
//! who is granted the lease knows that nobody has a lock; trying the lock itself would make a program that starts at that
//! instant believe that it runs already.

use crate::kinds::judged_file::JudgedFile;
use crate::owner;
use kobj_abi::HostKind;

/// This kind.
pub static LOCK_FILE: JudgedFile = JudgedFile {
    kind: HostKind::LockFile,
    objection: owner::named_owner_is_gone,
    end: "it stays until somebody deletes it",
};
