//! POSIX message queues: seen without a mount that stays, judged by the lease, raced.

mod common;

use common::{Racer, again, scrub, view};
use kobj_abi::HostKind;
use kobj_core::image::HostImage;
use kobj_host::hands::Hands;
use kobj_host::kind::{Outcome, Verdict, Visibility};
use kobj_host::kinds::{self, posix_queue};
use kobj_host::places::Before;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder of queues and a name of our own; `None`, said by name, where there is none.
fn scene(test: &str) -> Option<(OwnedFd, String)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    match posix_queue::queues(&view()) {
        Ok(folder) => {
            Some((folder, format!("kobj-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))))
        }
        Err(error) => {
            println!("skipped: {test}: no queues here: {error}");
            None
        }
    }
}

fn open(folder: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(folder, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
}

fn find(name: &str) -> Option<HostImage> {
    let mut found = Vec::new();
    let seen = kinds::of(HostKind::PosixQueue).expect("known").census(&view(), &mut found);
    assert_eq!(seen, Visibility::Whole);
    found.into_iter().find(|image| image.name == format!("/{name}").into_bytes())
}

#[test]
fn a_queue_is_seen_judged_and_scrubbed_and_no_mount_stays() {
    let Some((folder, name)) = scene("a_queue_is_seen_judged_and_scrubbed_and_no_mount_stays") else { return };
    let mounts = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
        table.lines().filter(|line| line.contains("mqueue")).count()
    };
    let before = mounts();
    let start = std::time::Instant::now();
    let look = Before::take(&view());
    println!("a look at the queues: {:?}", start.elapsed());
    let held = open(&folder, &name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).expect("made");
    let (candidates, _) = look.candidates(&view());
    let found = find(&name).expect("seen");
    assert!(candidates.contains(&found), "new since the look");
    assert!(matches!(scrub(&view(), &found), Outcome::Left(Verdict::InUse(..))));
    assert_eq!(find(&name), Some(found.clone()));
    drop(held);
    let outcome = scrub(&view(), &found);
    assert!(matches!(outcome, Outcome::Scrubbed(_)), "{outcome:?}");
    assert_eq!(find(&name), None);
    assert_eq!(scrub(&view(), &found), Outcome::Left(Verdict::Gone));
    assert_eq!(mounts(), before, "no mount stays");
}

#[test]
fn a_queue_in_use_keeps_its_mode_and_another_one_its_name() {
    let Some((folder, name)) = scene("a_queue_in_use_keeps_its_mode_and_another_one_its_name") else { return };
    let held = open(&folder, &name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).expect("made");
    let found = find(&name).expect("seen");
    assert!(matches!(scrub(&view(), &found), Outcome::Left(Verdict::InUse(..))));
    assert_eq!(rustix::fs::fstat(&held).expect("looked").st_mode & 0o777, 0o600);
    drop(held);
    rustix::fs::unlinkat(&folder, name.as_str(), rustix::fs::AtFlags::empty()).expect("unlinked");
    drop(open(&folder, &name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).expect("made again"));
    assert_eq!(scrub(&view(), &found), Outcome::Left(Verdict::Replaced));
    let other = find(&name).expect("it is still there");
    assert!(matches!(scrub(&view(), &other), Outcome::Scrubbed(_)));
}

/// Queues that go with the test.
struct Unlinked<'f> {
    folder: &'f OwnedFd,
    names: Vec<String>,
}

impl Drop for Unlinked<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = rustix::fs::unlinkat(self.folder, name.as_str(), rustix::fs::AtFlags::empty());
        }
    }
}

/// Queues in the race: by default nine of the usual size are all that a user may have, and other tests want some.
const QUEUES: u32 = 4;

/// One opener of the race, in a process of its own and without root's rights.
#[test]
fn racing_queue_opener() {
    let Some(name) = std::env::var_os("KOBJ_TEST_QUEUE").map(PathBuf::from) else { return };
    let name = name.to_str().expect("plain").to_owned();
    let folder = posix_queue::queues(&view()).expect("queues");
    if rustix::process::geteuid().is_root() {
        // The folder is held open; what follows is done as the user nobody.
        rustix::thread::set_thread_res_gid(gid(65534), gid(65534), gid(65534)).expect("given up");
        rustix::thread::set_thread_res_uid(uid(65534), uid(65534), uid(65534)).expect("given up");
    }
    let (mut opens, mut orphans) = (0_u64, 0_u64);
    let stop = format!("{name}.stop");
    let is_over =
        || rustix::fs::accessat(&folder, &stop, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok();
    let (mut number, mut rounds) = (0, 0);
    while rounds % 64 != 0 || !is_over() {
        match open(&folder, &format!("{name}.{}", number % QUEUES), OFlags::RDWR) {
            Ok(queue) => {
                opens += 1;
                orphans += u64::from(rustix::fs::fstat(&queue).expect("looked").st_nlink == 0);
            }
            // Gone, or shut for us: the scrubber is at the next.
            Err(_) => number += 1,
        }
        rounds += 1_u64;
        std::thread::yield_now();
    }
    println!("opens {opens} orphans {orphans}");
    assert_eq!(orphans, 0, "an opener held a deleted queue");
}

fn uid(raw: u32) -> rustix::thread::Uid {
    rustix::thread::Uid::from_raw(raw)
}

fn gid(raw: u32) -> rustix::thread::Gid {
    rustix::thread::Gid::from_raw(raw)
}

#[test]
fn no_racing_opener_holds_a_deleted_queue() {
    let Some((folder, name)) = scene("no_racing_opener_holds_a_deleted_queue") else { return };
    let opener = Racer::start(again("racing_queue_opener", "KOBJ_TEST_QUEUE", Path::new(&name)));
    let (mut gone, mut refused) = (0, 0);
    let kind = kinds::of(HostKind::PosixQueue).expect("known");
    let names: Vec<String> = (0..QUEUES).map(|number| format!("{name}.{number}")).collect();
    let mut all = names.clone();
    all.push(format!("{name}.stop"));
    let _tidy = Unlinked { folder: &folder, names: all };
    for _ in 0..500 {
        for name in &names {
            match open(&folder, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
                // Open to all, so that the other user comes in.
                Ok(made) => rustix::fs::fchmod(&made, Mode::from_raw_mode(0o666)).expect("changed"),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let mut found = Vec::new();
        kind.census(&view(), &mut found);
        found.retain(|image| names.iter().any(|name| image.name.ends_with(name.as_bytes())));
        assert_eq!(found.len(), names.len());
        let mut ignore = |_| {};
        let mut hands = Hands::new(&mut ignore);
        for outcome in kind.scrub_all(&view(), &found.iter().collect::<Vec<_>>(), &mut hands) {
            match outcome {
                Outcome::Scrubbed(_) => gone += 1,
                Outcome::Left(Verdict::InUse(..)) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    let stop = format!("{name}.stop");
    drop(open(&folder, &stop, OFlags::RDWR | OFlags::CREATE).expect("made"));
    let fair = opener.ended_well();
    println!("scrubbed {gone} refused {refused}");
    assert!(fair, "an opener held a deleted queue");
    assert!(gone > 100, "there was no race");
}
