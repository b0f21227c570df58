//! Looking at and ending processes: only those that a test started, each by a descriptor or a fresh look.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;

/// The children of a process, in the order in which it got them.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return found };
    for thread in threads.flatten() {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    found
}

/// All descendants of a process, without itself.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() {
        for child in children(found[next]) {
            if !found.contains(&child) {
                found.push(child);
            }
        }
        next += 1;
    }
    found
}

/// The state letter of a process (`R`, `S`, `T`, `Z`...); `None` if there is none.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether a process is there and not a zombie.
#[must_use]
pub fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|letter| letter != 'Z')
}

/// The start time of a process in clock ticks since boot.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// A field of `/proc/PID/status`, trimmed.
#[must_use]
pub fn status_field(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(|value| value.trim().to_string())
}

/// Sends a signal; whether there was somebody to get it.
pub fn send(pid: u32, signal: Signal) -> bool {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    kill_process(target, signal).is_ok()
}

/// Kills `root`'s descendants: all are stopped first, so that none starts another or tidies up after one, then killed,
/// `root`'s first child last.
pub fn kill_tree(root: u32) {
    let main = children(root).first().copied();
    let mut stopped: Vec<u32> = Vec::new();
    loop {
        let fresh: Vec<u32> = descendants(root).into_iter().filter(|pid| !stopped.contains(pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            send(pid, Signal::STOP);
            stopped.push(pid);
        }
    }
    for pid in stopped.into_iter().rev().filter(|pid| Some(*pid) != main) {
        send(pid, Signal::KILL);
    }
    if let Some(pid) = main {
        send(pid, Signal::KILL);
    }
}
