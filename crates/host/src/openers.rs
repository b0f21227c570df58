//! Whether anybody who lives could open a file: the only thing that can be known of a named pipe, which no judge answers
//! for.
//!
//! A process that waits in opening a pipe holds no descriptor, and one that will open it has nothing of it yet. So a pipe
//! is nobody's only if every process that its mode lets in is dead. Root is let in everywhere and never dead: a pipe of
//! root's own stays. For another user's, root's processes count only while one waits in opening anything at all, which
//! `/proc` shows to root; and so a user without rights proves nothing here. Nor does anybody who does not see every
//! process of the machine.

use crate::identity::Stat;
use crate::proc::status::{self, Status};
use crate::proc::{self, Life, Proc, decimal, numbered_entries, words};
use crate::view::View;
use std::io::ErrorKind;

/// The link of a process that lives in the machine's own PID namespace, which sees all processes.
const FIRST_PID_NAMESPACE: &[u8] = b"pid:[4026531836]";
/// Capabilities that open what a mode closes, or lead to it: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, SETUID,
/// SYS_PTRACE, SYS_ADMIN.
const LETS_IN: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 7 | 1 << 19 | 1 << 21;
/// Where the kernel keeps who waits for the other end of a pipe, by the name of its function.
const WAITS: [&[u8]; 2] = [b"wait_for_partner", b"fifo_open"];
/// Numbers of the calls that open by a name, those of 32-bit programs included.
#[cfg(target_arch = "x86_64")]
const OPENING: Option<&[u64]> = Some(&[2, 5, 8, 85, 257, 295, 304, 342, 437]);
#[cfg(target_arch = "aarch64")]
const OPENING: Option<&[u64]> = Some(&[5, 8, 56, 265, 322, 371, 437]);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OPENING: Option<&[u64]> = None;

/// Nothing if nobody alive, but for this process, can be opening the file or could open it; else who could, or why it
/// cannot be known.
pub(crate) fn none_is_left(view: &View, file: &Stat) -> Result<(), String> {
    if file.uid == 0 {
        return Err("it is root's, of whom some process always lives".to_owned());
    }
    if file.mode & 0o077 != 0 {
        return Err("its mode lets others in than its owner".to_owned());
    }
    let unread = |error: std::io::Error| format!("the process table cannot be read: {error}");
    let proc = Proc::open(&view.proc).map_err(unread)?;
    let own = proc.life(std::process::id()).map_err(unread)?;
    let pids = proc.pids().map_err(unread)?;
    if own.link("ns/pid").ok().as_deref() != Some(FIRST_PID_NAMESPACE) || pids.first() != Some(&1) {
        return Err("not every process of this machine can be seen from here".to_owned());
    }
    let users = own.link("ns/user").map_err(|error| unread(error.into()))?;
    for pid in pids.into_iter().filter(|pid| *pid != own.pid) {
        if let Some(why) = proc.life(pid).ok().and_then(|life| why_not(&life, file.uid, &users)) {
            return Err(format!("pid {pid} ({}) {why}", proc.life(pid).map_or_else(|_| String::new(), |l| name(&l))));
        }
    }
    Ok(())
}

fn name(life: &Life) -> String {
    String::from_utf8_lossy(&life.command()).into_owned()
}

/// Why the process could open a file of that user, or may be opening it.
fn why_not(life: &Life, owner: u32, users: &[u8]) -> Option<&'static str> {
    // One that cannot be read is gone.
    let stat = life.stat()?;
    if stat.is_kernel_thread() || stat.is_dead() && stat.threads <= 1 {
        return None;
    }
    let text = life.read("status", proc::SMALL).ok()?;
    let Status { users: ids, capabilities, .. } = status::parse(&text);
    if ids.iter().any(|id| id.is_none_or(|id| id == owner)) {
        return Some("runs as its owner");
    }
    let is_strong = ids.contains(&Some(0)) || capabilities.is_none_or(|mask| mask & LETS_IN != 0);
    if life.link("ns/user").is_ok_and(|other| other != users) {
        return Some("lives in another user namespace, where its rights cannot be known");
    }
    // The machine's init opens no pipes of others, and may hide even from root.
    if !is_strong || life.pid == 1 {
        return None;
    }
    may_be_opening(life)
}

/// Whether a thread of the process waits in opening something.
fn may_be_opening(life: &Life) -> Option<&'static str> {
    const HIDES: Option<&str> = Some("may open everything, and what it waits for cannot be seen");
    let (Some(opening), Ok(threads)) = (OPENING, life.subfolder("task")) else { return HIDES };
    let mut found = None;
    let listed = numbered_entries(&threads, |thread| {
        let read = |file: &str| proc::read_at(&threads, format!("{thread}/{file}").as_str(), proc::SMALL);
        let waits = match (read("syscall"), read("wchan")) {
            (Ok(call), Ok(place)) => {
                let number = words(call.trim_ascii()).next().and_then(decimal);
                // A thread that serves a ring of requests is in no call of its own.
                let serves = read("comm").is_ok_and(|comm| comm.starts_with(b"iou-"));
                serves || number.is_some_and(|number| opening.contains(&number)) || WAITS.contains(&place.trim_ascii())
            }
            (Err(error), _) | (_, Err(error)) => {
                let is_gone = error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(GONE);
                if !is_gone {
                    found = HIDES;
                }
                false
            }
        };
        if waits {
            found = Some("may open everything, and waits in opening something");
        }
    });
    if listed.is_err() && life.stat().is_some() { HIDES } else { found }
}

/// `ESRCH`: the process ended while it was read.
const GONE: i32 = rustix::io::Errno::SRCH.raw_os_error();
