//! POSIX message queues: seen without a mount that stays, judged by the lease, raced.

mod common;

use common::{again, scrub, view};
use kobj_abi::HostKind;
use kobj_core::image::HostImage;
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
    while rustix::fs::accessat(
        &folder,
        format!("{name}.stop"),
        rustix::fs::Access::EXISTS,
        rustix::fs::AtFlags::empty(),
    )
    .is_err()
    {
        if let Ok(queue) = open(&folder, &name, OFlags::RDWR) {
            opens += 1;
            orphans += u64::from(rustix::fs::fstat(&queue).expect("looked").st_nlink == 0);
        }
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
    let mut opener = again("racing_queue_opener", "KOBJ_TEST_QUEUE", Path::new(&name)).spawn().expect("started");
    let (mut gone, mut refused) = (0, 0);
    for _ in 0..10_000 {
        match open(&folder, &name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
            // Open to all, so that the other user comes in.
            Ok(made) => rustix::fs::fchmod(&made, Mode::from_raw_mode(0o666)).expect("changed"),
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => panic!("{error}"),
        }
        let image = find(&name).expect("it is there");
        match scrub(&view(), &image) {
            Outcome::Scrubbed(_) => gone += 1,
            Outcome::Left(Verdict::InUse(..)) => {
                refused += 1;
                std::thread::yield_now();
            }
            other => panic!("{other:?}"),
        }
    }
    let stop = format!("{name}.stop");
    drop(open(&folder, &stop, OFlags::RDWR | OFlags::CREATE).expect("made"));
    let ended = opener.wait().expect("ended");
    for name in [&name, &stop] {
        let _ = rustix::fs::unlinkat(&folder, name.as_str(), rustix::fs::AtFlags::empty());
    }
    println!("scrubbed {gone} refused {refused}");
    assert!(ended.success(), "an opener held a deleted queue");
    assert!(gone > 100, "there was no race");
}
