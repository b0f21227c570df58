//! Sections in a process that may have less than the machine has: a limit of file sizes or of descriptors, a control group.
//!
//! Each test runs itself again in such a process.

use kobj::{Error, Manager, SectionOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Set in the process that has the limit.
const INSIDE: &str = "KOBJ_TEST_INSIDE";
const MIB: u64 = 1 << 20;

/// Runs a test of this file again, by a shell that first does something to itself.
fn again(test: &str, first: &str) -> Output {
    let program = std::env::current_exe().unwrap();
    let script = format!("{first} && exec \"$0\" --exact {test} --nocapture");
    Command::new("sh").arg("-c").arg(script).arg(program).env(INSIDE, "1").output().unwrap()
}

fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

/// Sizes that are refused, in each way of taking pages, and one that is not.
fn assert_limit(too_large: &[u64], fits: u64) {
    let manager = Manager::embedded().unwrap();
    let caller = manager.caller();
    for size_bytes in too_large {
        for lazy in [false, true] {
            let refused = caller.create_section(SectionOptions::new(*size_bytes).lazy(lazy)).map(drop);
            assert_eq!(refused, Err(Error::NoMemory {}), "{size_bytes}, lazy {lazy}");
        }
    }
    caller.create_section(fits).unwrap();
    manager.audit().unwrap();
}

#[test]
fn beyond_the_largest_file_a_section_is_refused_and_no_signal_comes() {
    if std::env::var_os(INSIDE).is_some() {
        return assert_limit(&[2 * MIB, 64 * MIB], MIB / 2);
    }
    // In blocks of 512 or 1024 bytes, as the shell has it: 512 KiB or 1 MiB.
    assert_passed(&again("beyond_the_largest_file_a_section_is_refused_and_no_signal_comes", "ulimit -f 1024"));
}

#[test]
fn without_descriptors_there_is_no_section_and_one_less_makes_room() {
    if std::env::var_os(INSIDE).is_none() {
        return assert_passed(&again(
            "without_descriptors_there_is_no_section_and_one_less_makes_room",
            "ulimit -n 20",
        ));
    }
    let manager = Manager::embedded().unwrap();
    let caller = manager.caller();
    let mut sections = Vec::new();
    let refused = loop {
        match caller.create_section(4096) {
            Ok(section) => sections.push(section),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::TooManyFiles {});
    assert!((1..20).contains(&sections.len()));
    manager.audit().unwrap();
    assert_eq!(manager.live::<kobj::types::Section>(), sections.len() as u64);
    sections.pop();
    sections.push(caller.create_section(4096).unwrap());
    manager.audit().unwrap();
}

/// A control group with a limit of its own, removed at the end.
struct Group(PathBuf);

impl Group {
    /// Inside the one in which this process is; `None` where that cannot be.
    fn new(limit_bytes: u64) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = |controllers: &str| {
            groups.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (found, path) = rest.split_once(':')?;
                (found == controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let first = path("memory").map(|path| (Path::new("/sys/fs/cgroup/memory").join(path), "memory.limit_in_bytes"));
        let second = path("").map(|path| (Path::new("/sys/fs/cgroup").join(path), "memory.max"));
        [first, second].into_iter().flatten().find_map(|(parent, file)| {
            let group = Self(parent.join(format!("kobj-limits-{}", std::process::id())));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(file), limit_bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn beyond_what_its_control_group_leaves_a_section_is_refused() {
    if std::env::var_os(INSIDE).is_some() {
        return assert_limit(&[64 * MIB, 65 * MIB, 1024 * MIB], 16 * MIB);
    }
    let Some(group) = Group::new(64 * MIB) else {
        println!("skipped: control group: none with a limit of memory can be made here");
        return;
    };
    let enter = format!("echo $$ > {}", group.0.join("cgroup.procs").display());
    assert_passed(&again("beyond_what_its_control_group_leaves_a_section_is_refused", &enter));
}
