//! From where and with what settings the host is looked at.

use std::path::PathBuf;

/// What is looked at, and on whose behalf. Made once per command.
#[derive(Clone, Debug)]
pub struct View {
    /// Where procfs is (`/proc`; another folder in tests of unreadable or hidden entries).
    pub proc: PathBuf,
    /// Where shared-memory segments live: `/dev/shm`, hugetlbfs mounts, and the configuration's `segment_folders`.
    pub segment_folders: Vec<PathBuf>,
    /// Where temporary files live: `TMPDIR`, `/tmp`, `/var/tmp`, `/run`, `/run/user/UID`; each once, real paths.
    pub temporary_folders: Vec<PathBuf>,
    /// Our effective user id.
    pub uid: u32,
}
