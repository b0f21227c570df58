//! A command's own namespaces: what they are made of, and the child's side of furnishing them.
//!
//! The first process of a PID namespace ignores signals that it does not handle, which a command would notice. So kobj
//! starts itself there, as an init that starts the command; a line (a socket) leads from the init to the kobj outside.

use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use std::ffi::{CStr, CString};
use std::io;

/// Own namespaces for a command, made ready: entering them allocates nothing.
#[derive(Debug)]
pub struct Isolation<'a> {
    line: BorrowedFd<'a>,
    /// `ID ID 1`: the caller keeps its user and group; `None` without a user namespace.
    maps: Option<(String, String)>,
    /// The options of the private `/dev/shm`.
    segments: CString,
}

/// A step of entering that failed, in words that follow "cannot".
pub(crate) const STEPS: [&str; 6] = [
    "make the namespaces",
    "map the user and group into the user namespace",
    "make the mounts private",
    "mount a private /dev/shm",
    "mount private message queues on /dev/mqueue",
    "mount the new PID namespace's /proc",
];

impl<'a> Isolation<'a> {
    /// Makes everything ready; `line` is handed to the started program, all other descriptors close as usual.
    ///
    /// `own_user`: in a user namespace of its own, which needs no rights and takes away those that the caller has.
    #[must_use]
    pub fn new(line: BorrowedFd<'a>, own_user: bool) -> Self {
        let map = |id: u32| format!("{id} {id} 1\n");
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let size = rustix::fs::statfs("/dev/shm")
            .ok()
            .and_then(|outside| outside.f_blocks.checked_mul(u64::try_from(outside.f_bsize).ok()?))
            .filter(|bytes| *bytes > 0);
        let options = size.map_or_else(|| "mode=1777".to_owned(), |bytes| format!("mode=1777,size={bytes}"));
        Self {
            line,
            maps: own_user.then(|| (map(user), map(group))),
            // Digits and letters: never a NUL byte.
            segments: CString::new(options).unwrap_or_default(),
        }
    }

    /// The flags of the clone.
    pub(crate) fn flags(&self) -> u64 {
        let own_user = if self.maps.is_some() { libc::CLONE_NEWUSER } else { 0 };
        (libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWNS | own_user) as u64
    }

    /// The child's side, in the new namespaces, before it executes: system calls alone.
    ///
    /// On failure: which of [`STEPS`], and why.
    pub(crate) fn enter(&self) -> Result<(), (usize, Errno)> {
        if let Some((user, group)) = &self.maps {
            // Denied first: the kernel lets nobody map a group who could still drop groups that forbid something.
            write_to(c"/proc/self/setgroups", b"deny").map_err(|e| (1, e))?;
            write_to(c"/proc/self/uid_map", user.as_bytes()).map_err(|e| (1, e))?;
            write_to(c"/proc/self/gid_map", group.as_bytes()).map_err(|e| (1, e))?;
        }
        let propagation = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change(c"/", propagation).map_err(|e| (2, e))?;
        let quiet = MountFlags::NOSUID | MountFlags::NODEV;
        present(mount(c"tmpfs", c"/dev/shm", c"tmpfs", quiet, self.segments.as_c_str())).map_err(|e| (3, e))?;
        let no_programs = quiet | MountFlags::NOEXEC;
        present(mount(c"mqueue", c"/dev/mqueue", c"mqueue", no_programs, None)).map_err(|e| (4, e))?;
        mount(c"proc", c"/proc", c"proc", no_programs, None).map_err(|e| (5, e))?;
        rustix::io::fcntl_setfd(self.line, FdFlags::empty()).map_err(|e| (0, e))
    }
}

/// A place that this machine does not have need not be private.
fn present(mounted: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match mounted {
        Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        other => other,
    }
}

fn write_to(path: &CStr, bytes: &[u8]) -> rustix::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, bytes).map(drop)
}

/// The line's end that the init was handed as number `raw`; it is closed in whatever the init executes.
///
/// # Errors
/// This process is not the first of a PID namespace, or the number is a standard stream or no socket: nobody handed it.
pub fn take_line(raw: RawFd) -> io::Result<OwnedFd> {
    let not_handed = || io::Error::new(io::ErrorKind::InvalidInput, "not started by kobj run --isolate");
    if std::process::id() != 1 || raw <= 2 {
        return Err(not_handed());
    }
    // SAFETY: duty: none, F_GETFD takes no pointer, and a closed number is answered with EBADF. A command that takes a
    // pointer would break it.
    if unsafe { libc::fcntl(raw, libc::F_GETFD) } == -1 {
        return Err(not_handed());
    }
    // SAFETY: the number is open (above) and was handed to this process for this use: nothing of the runtime owns it. It
    // would break if somebody took the line twice; the init's main takes it once.
    let line = unsafe { OwnedFd::from_raw_fd(raw) };
    rustix::io::fcntl_setfd(&line, FdFlags::CLOEXEC)?;
    match rustix::net::sockopt::socket_type(line.as_fd()) {
        Ok(rustix::net::SocketType::SEQPACKET) => Ok(line),
        _ => Err(not_handed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_only_where_asked_for() {
        let line = std::fs::File::open("/dev/null").unwrap();
        let with = Isolation::new(line.as_fd(), true);
        let without = Isolation::new(line.as_fd(), false);
        assert_eq!(with.flags() & libc::CLONE_NEWUSER as u64, libc::CLONE_NEWUSER as u64);
        assert_eq!(without.flags(), with.flags() & !(libc::CLONE_NEWUSER as u64));
        assert!(with.segments.to_bytes().starts_with(b"mode=1777"));
    }

    #[test]
    fn a_line_that_nobody_handed_is_refused() {
        assert!(take_line(0).is_err());
        assert!(take_line(1_000_000).is_err());
    }
}
