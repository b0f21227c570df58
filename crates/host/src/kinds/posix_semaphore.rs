//! Named POSIX semaphores: `sem.NAME` in a segment folder, kept mapped by whoever uses them.
//!
//! Judge: the write lease, as for segments. A semaphore that a live process will open again, but has not open now, is
//! unused by this judge; that it was the job's own is proved before.

use crate::kinds::judged_file::{self, JudgedFile};
use kobj_abi::HostKind;

/// This kind.
pub static POSIX_SEMAPHORE: JudgedFile = JudgedFile {
    kind: HostKind::PosixSemaphore,
    objection: judged_file::no_objection,
    end: "it stays until somebody unlinks its name or the machine restarts",
};
