//! Objects that a program is known to make: whether they are there, and how a test takes away what it left.

use crate::process;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Puts variables in braces into a pattern; `None` if one is not known.
#[must_use]
pub fn fill(pattern: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut filled = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}')?;
        filled.push_str(before);
        filled.push_str(variables.get(name)?);
        rest = behind;
    }
    filled.push_str(rest);
    Some(filled)
}

/// Whether a System V object of that table and id is there.
fn sysv(table: &str, id: &str) -> bool {
    let text = fs::read_to_string(format!("/proc/sysvipc/{table}")).unwrap_or_default();
    text.lines().skip(1).any(|line| line.split_ascii_whitespace().nth(1) == Some(id))
}

/// Whether an object, as [`crate::program::Program::makes`] spells it, is there; `None` where no look tells.
#[must_use]
pub fn exists(object: &str) -> Option<bool> {
    let (kind, name) = object.split_once(' ')?;
    let mounted = |path: &str| {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        text.lines().any(|line| line.split(' ').nth(4) == Some(path))
    };
    match kind {
        "path" => Some(fs::symlink_metadata(name).is_ok()),
        "sysv-segment" => Some(sysv("shm", name)),
        "sysv-semaphore" => Some(sysv("sem", name)),
        "sysv-queue" => Some(sysv("msg", name)),
        "process" => Some(process::alive(name.parse().ok()?)),
        "mount" => Some(mounted(name)),
        "loop-device" => {
            Some(Path::new(&format!("/sys/block/{}/loop/backing_file", name.trim_start_matches("/dev/"))).exists())
        }
        "namespace" => Some(Path::new("/run/netns").join(name).exists()),
        "abstract" => {
            let text = fs::read_to_string("/proc/net/unix").unwrap_or_default();
            Some(text.lines().any(|line| line.split(' ').next_back() == Some(&format!("@{name}"))))
        }
        _ => None,
    }
}

/// Takes an object of a test away, if it is still there; `folder` holds the compiled daemon, which can drop queues.
pub fn remove(object: &str, folder: &Path) {
    let Some((kind, name)) = object.split_once(' ') else { return };
    let run = |words: &[&str]| drop(Command::new(words[0]).args(&words[1..]).output());
    let there = exists(object) != Some(false);
    match kind {
        _ if !there => {}
        "path" if Path::new(name).is_dir() => drop(fs::remove_dir_all(name)),
        "path" => drop(fs::remove_file(name)),
        "sysv-segment" => run(&["ipcrm", "-m", name]),
        "sysv-semaphore" => run(&["ipcrm", "-s", name]),
        "sysv-queue" => run(&["ipcrm", "-q", name]),
        "mount" => run(&["umount", name]),
        "loop-device" => run(&["losetup", "-d", name]),
        "namespace" => {
            run(&["ip", "netns", "delete", name]);
            drop(fs::remove_file(Path::new("/run/netns").join(name)));
        }
        "posix-queue" => run(&[&folder.join("daemon").display().to_string(), "--drop-queue", name]),
        _ => {}
    }
}

/// Paths under /dev/shm and System V ids that the processes have mapped: a bystander's must stay what they are.
#[must_use]
pub fn mapped(pids: &[u32]) -> Vec<String> {
    let mut found = Vec::new();
    for pid in pids {
        for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (Some(inode), Some(path)) = (fields.get(4), fields.get(5)) else { continue };
            if path.starts_with("/dev/shm/") && fields.get(6).is_none() {
                found.push(format!("path {path}"));
            } else if path.starts_with("/SYSV") && sysv("shm", inode) {
                found.push(format!("sysv-segment {inode}"));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}
