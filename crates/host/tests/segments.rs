//! Segments and semaphores: the write lease as judge, the quarantine, and every way in which it must say no.

mod common;

use common::{Other, Racer, Scene, again, image, scrub};
use kobj_abi::{Class, HostKind};
use kobj_host::hands::{Hands, QuarantineNote};
use kobj_host::kind::{Outcome, Verdict};
use kobj_host::kinds;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

fn is_in_use(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Left(Verdict::InUse(..)))
}

#[test]
fn an_unused_segment_goes_and_nothing_stays() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let path = scene.file("psm_1");
    let found = image(&view, &path);
    assert_eq!((found.kind, found.class, found.size), (HostKind::Segment, Class::Runtime, Some(7)));
    let judged =
        kinds::of(found.kind).expect("known").judge(&view, &found, &mut kobj_host::hands::Hands::new(&mut |_| {}));
    assert!(matches!(judged, Verdict::Unused(_)), "{judged:?}");
    let outcome = scrub(&view, &found);
    assert!(matches!(outcome, Outcome::Scrubbed(_)), "{outcome:?}");
    assert!(scene.names().is_empty(), "no debris: {:?}", scene.names());
    assert_eq!(scrub(&view, &found), Outcome::Left(Verdict::Gone));
}

#[test]
fn a_semaphore_is_told_from_a_segment() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let found = image(&view, &scene.file("sem.mine"));
    assert_eq!(found.kind, HostKind::PosixSemaphore);
    assert!(matches!(scrub(&view, &found), Outcome::Scrubbed(_)));
}

#[test]
fn an_open_descriptor_keeps_a_segment() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let path = scene.file("open");
    let found = image(&view, &path);
    let script = "held = open(sys.argv[1], 'rb')";
    let Some(other) = Other::python("an_open_descriptor_keeps_a_segment", script, &[&path]) else { return };
    assert!(is_in_use(&scrub(&view, &found)));
    assert_eq!(scene.names(), ["open"], "it keeps its name, and no folder of ours stays");
    other.end();
    assert!(matches!(scrub(&view, &found), Outcome::Scrubbed(_)), "once the other is gone it is nobody's");
}

#[test]
fn a_mapping_without_descriptor_keeps_a_segment() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let path = scene.file("mapped");
    let found = image(&view, &path);
    // Python's mmap duplicates the descriptor: close that one too, and make sure that none is left.
    let script = "import mmap, os\n\
        f = open(sys.argv[1], 'r+b'); held = mmap.mmap(f.fileno(), 0); f.close()\n\
        for d in os.listdir('/proc/self/fd'):\n\
        \x20   try:\n\
        \x20       if os.readlink('/proc/self/fd/' + d) == sys.argv[1]: os.close(int(d))\n\
        \x20   except OSError: pass\n";
    let Some(other) = Other::python("a_mapping_without_descriptor_keeps_a_segment", script, &[&path]) else { return };
    let held = fs::read_dir(format!("/proc/{}/fd", other.pid())).expect("its descriptors can be listed");
    let holds = held.filter_map(|d| fs::read_link(d.ok()?.path()).ok()).any(|target| target == path);
    assert!(!holds, "the mapping alone is tested");
    assert!(is_in_use(&scrub(&view, &found)));
    assert_eq!(scene.names(), ["mapped"]);
}

#[test]
fn another_object_under_the_name_is_left() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let path = scene.file("name");
    let found = image(&view, &path);
    fs::remove_file(&path).expect("removed");
    scene.file("name");
    assert_eq!(scrub(&view, &found), Outcome::Left(Verdict::Replaced));
    assert_eq!(scene.names(), ["name"]);
}

#[test]
fn a_link_in_its_place_is_left() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let victim = scene.file("victim");
    let path = scene.file("name");
    let found = image(&view, &path);
    fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink(&victim, &path).expect("linked");
    assert_eq!(scrub(&view, &found), Outcome::Left(Verdict::Replaced), "a symbolic link");
    fs::remove_file(&path).expect("removed");
    fs::hard_link(&victim, &path).expect("linked");
    assert_eq!(scrub(&view, &found), Outcome::Left(Verdict::Replaced), "a hard link");
    // The straggler itself with a second name: deleting one would hide what the other is.
    let twice = image(&view, &path);
    assert!(matches!(scrub(&view, &twice), Outcome::Left(Verdict::Unknown(_))));
    assert_eq!(scene.names(), ["name", "victim"]);
}

#[test]
fn any_bytes_can_be_a_name() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    for name in [&b"two\nlines"[..], b"not \xff\xfe text", b" ", b"-rf", b"\x1b[31m"] {
        let path = scene.path.join(OsStr::from_bytes(name));
        fs::write(&path, b"x").expect("written");
        let found = image(&view, &path);
        assert_eq!(found.name, path.as_os_str().as_bytes());
        assert!(matches!(scrub(&view, &found), Outcome::Scrubbed(_)), "{name:?}");
    }
    assert!(scene.names().is_empty());
}

#[test]
fn rooms_are_noted_before_use_and_after_removal() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let mut notes = Vec::new();
    let mut note = |n| notes.push(n);
    let mut hands = Hands::new(&mut note);
    for name in ["a", "b", "c"] {
        let found = image(&view, &scene.file(name));
        let outcome = kinds::of(found.kind).expect("known").scrub(&view, &found, &mut hands);
        assert!(matches!(outcome, Outcome::Scrubbed(_)), "{outcome:?}");
    }
    assert_eq!(scene.names().len(), 1, "one room serves all");
    hands.finish();
    drop(hands);
    let [QuarantineNote::Opened(opened), QuarantineNote::Closed(closed)] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!(opened, closed);
    assert!(scene.names().is_empty());
}

#[test]
fn ten_thousand_segments_go_quickly() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let before = kobj_host::places::Before::take(&view);
    for number in 0..10_000 {
        scene.file(&format!("psm_{number}"));
    }
    let start = Instant::now();
    let (mut found, blind) = before.candidates(&view);
    let named = start.elapsed();
    // Message queues lie in no folder of the view: those of tests beside this one are new as well.
    found.retain(|object| object.kind == HostKind::Segment);
    assert_eq!((found.len(), blind.len()), (10_000, 0));
    let mut ignore = |_| {};
    let mut hands = Hands::new(&mut ignore);
    let start = Instant::now();
    let all: Vec<_> = found.iter().collect();
    let outcomes = kinds::of(HostKind::Segment).expect("known").scrub_all(&view, &all, &mut hands);
    let kept = outcomes.iter().find(|outcome| !matches!(outcome, Outcome::Scrubbed(_)));
    assert!(kept.is_none() && outcomes.len() == all.len(), "{kept:?}");
    println!("10,000 segments: named in {named:?}, scrubbed in {:?}", start.elapsed());
    drop(hands);
    assert!(scene.names().is_empty());
}

const RACE: &str = "KOBJ_TEST_RACE";
/// Two openers.
const RACERS: usize = 2;
/// The race goes on until each of them has opened the file so often, and so many scrubs were granted; or for so many scrubs.
const RACE_OPENS: u32 = 5_000;
const RACE_GONE: u32 = 250;
const RACE_ROUNDS: u32 = 300_000;

fn spin(times: u64) {
    for _ in 0..times {
        std::hint::spin_loop();
    }
}

/// One racer, in a process of its own: opens the name again and again, and looks whether what it got has a name.
#[test]
fn racing_opener() {
    let Some(path) = std::env::var_os(RACE).map(PathBuf::from) else { return };
    let (mut opens, mut orphans, mut blocked) = (0_u32, 0_u64, 0_u64);
    let stop = path.with_extension("stop");
    for round in 0_u64.. {
        if round % 64 == 0 && stop.exists() {
            break;
        }
        // By turns: for reading, for writing, without waiting.
        let mut options = fs::OpenOptions::new();
        match round % 3 {
            0 => options.read(true),
            1 => options.write(true),
            _ => options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()),
        };
        match options.open(&path) {
            Ok(file) => {
                opens += 1;
                if opens == RACE_OPENS {
                    fs::write(path.with_extension(format!("enough-{}", std::process::id())), b"").expect("written");
                }
                let names = || file.metadata().map_or(0, |data| data.nlink());
                orphans += u64::from(names() == 0);
                spin(round % 7 * 50);
                orphans += u64::from(names() == 0);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => blocked += 1,
            Err(_) => {}
        }
        // Lose the processor while nothing is held, and come back at ever other moments.
        spin(round % 97 * 20);
        std::thread::yield_now();
    }
    println!("opens {opens} orphans {orphans} blocked {blocked}");
    assert_eq!(orphans, 0, "an opener held a file that had been deleted");
}

/// The scrubber of the race, in a process of its own, so that a signal's death is seen.
#[test]
fn racing_scrubber() {
    let Some(path) = std::env::var_os("KOBJ_TEST_SCRUB").map(PathBuf::from) else { return };
    let folder = path.parent().expect("it lies in a folder").to_path_buf();
    let view = kobj_host::view::View { segment_folders: vec![folder], temporary_folders: Vec::new(), ..common::view() };
    let mut ignore = |_| {};
    let mut hands = Hands::new(&mut ignore);
    let have_raced = || {
        let all = fs::read_dir(path.parent().expect("it lies in a folder")).expect("listed");
        all.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().as_bytes().starts_with(b"race.enough")))
            .count()
            == RACERS
    };
    let (mut refused, mut gone) = (0, 0);
    for _ in 0..RACE_ROUNDS {
        // A file that was in use stays: the next round finds it again.
        if !path.exists() {
            fs::write(&path, b"x").expect("written");
        }
        let found = image(&view, &path);
        match kinds::of(found.kind).expect("known").scrub(&view, &found, &mut hands) {
            Outcome::Scrubbed(_) => gone += 1,
            Outcome::Left(Verdict::InUse(..)) => refused += 1,
            other => panic!("{other:?}"),
        }
        if gone >= RACE_GONE && refused > 0 && have_raced() {
            break;
        }
    }
    println!("scrubbed {gone} refused {refused}");
    assert!(gone >= RACE_GONE && refused > 0 && have_raced(), "there was no race");
}

#[test]
fn no_racing_opener_holds_a_deleted_file() {
    let scene = Scene::new("/dev/shm");
    let path = scene.path.join("race");
    let openers: Vec<_> = (0..RACERS).map(|_| Racer::start(again("racing_opener", RACE, &path))).collect();
    let scrubber = again("racing_scrubber", "KOBJ_TEST_SCRUB", &path).status().expect("ran");
    fs::write(path.with_extension("stop"), b"").expect("written");
    let unfair = openers.into_iter().filter_map(|opener| (!opener.ended_well()).then_some(())).count();
    assert!(scrubber.success(), "the scrubber ended with {scrubber}");
    assert_eq!(unfair, 0, "an opener held a deleted file");
    let rest: Vec<String> = scene.names().into_iter().filter(|name| !name.starts_with("race")).collect();
    assert!(rest.is_empty(), "nothing of ours stays: {rest:?}");
}

/// A scrub of everything in a folder, in a process of its own, to be killed or to run with other rights.
#[test]
fn scrub_of_all() {
    let Some(folder) = std::env::var_os("KOBJ_TEST_ALL").map(PathBuf::from) else { return };
    let view = kobj_host::view::View { segment_folders: vec![folder], temporary_folders: Vec::new(), ..common::view() };
    let mut found = Vec::new();
    let _ = kinds::of(HostKind::Segment).expect("known").census(&view, &mut found);
    let mut ignore = |_| {};
    let mut hands = Hands::new(&mut ignore);
    let all: Vec<_> = found.iter().collect();
    let outcomes = kinds::of(HostKind::Segment).expect("known").scrub_all(&view, &all, &mut hands);
    for (object, outcome) in found.iter().zip(outcomes) {
        let name = String::from_utf8_lossy(&object.name).into_owned();
        println!("{} {outcome:?}", name.rsplit('/').next().unwrap_or_default());
    }
}

#[test]
fn a_scrub_killed_anywhere_loses_nothing() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let mut broken_off = 0;
    for round in 0..50_u32 {
        let names: Vec<String> = (0..100).map(|number| format!("f{number}")).collect();
        names.iter().for_each(|name| drop(scene.file(name)));
        let mut child = again("scrub_of_all", "KOBJ_TEST_ALL", &scene.path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("started");
        // Killed when it has done ever more of its work.
        while scene.names().iter().filter(|name| name.starts_with('f')).count() > (100 - round as usize * 2) {
            if child.try_wait().expect("asked").is_some() {
                break;
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        broken_off += u32::from(scene.names().iter().any(|name| name.starts_with(".kobj-")));
        assert!(kobj_host::hands::restore_rooms(&view).is_empty());
        let left = scene.names();
        assert!(left.iter().all(|name| names.contains(name)), "only files under their own names: {left:?}");
        left.iter().for_each(|name| assert_eq!(fs::read(scene.path.join(name)).expect("read"), b"content"));
    }
    assert!(broken_off > 0, "no scrub was broken off");
}

/// Runs `scrub_of_all` under `setpriv` with these arguments; what it printed, or `None`, said by name, if it cannot.
fn with_rights(test: &str, rights: &[&str], folder: &Path) -> Option<String> {
    let exe = std::env::current_exe().expect("we know our own path");
    let output = std::process::Command::new("setpriv")
        .args(rights)
        .arg(exe)
        .args(["--exact", "scrub_of_all", "--nocapture", "--test-threads=1"])
        .env("KOBJ_TEST_ALL", folder)
        .output();
    match output {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            println!("skipped: {test}: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            println!("skipped: {test}: setpriv: {error}");
            None
        }
    }
}

const NOBODY: u32 = 65534;

#[test]
fn root_without_the_lease_capability_scrubs_as_the_owner() {
    let test = "root_without_the_lease_capability_scrubs_as_the_owner";
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {test}: not root");
        return;
    }
    let scene = Scene::new("/dev/shm");
    let owned = scene.file("theirs");
    std::os::unix::fs::chown(&owned, Some(NOBODY), Some(NOBODY)).expect("given away");
    let held = scene.file("held");
    std::os::unix::fs::chown(&held, Some(NOBODY), Some(NOBODY)).expect("given away");
    let _open = fs::File::open(&held).expect("opened");
    let rights = ["--bounding-set=-lease", "--inh-caps=-lease"];
    let Some(said) = with_rights(test, &rights, &scene.path) else { return };
    assert!(said.contains("theirs Scrubbed"), "{said}");
    assert!(said.contains("held Left(InUse"), "{said}");
    assert_eq!(scene.names(), ["held"]);
}

#[test]
fn a_user_scrubs_what_is_his_and_nothing_else() {
    let test = "a_user_scrubs_what_is_his_and_nothing_else";
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {test}: not root");
        return;
    }
    let scene = Scene::new("/dev/shm");
    std::os::unix::fs::chown(&scene.path, Some(NOBODY), Some(NOBODY)).expect("given away");
    for name in ["his", "held"] {
        std::os::unix::fs::chown(scene.file(name), Some(NOBODY), Some(NOBODY)).expect("given away");
    }
    // In his own folder he could delete it; but he cannot ask the kernel who uses it.
    scene.file("roots");
    let _open = fs::File::open(scene.path.join("held")).expect("opened");
    let rights = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let Some(said) = with_rights(test, &rights, &scene.path) else { return };
    assert!(said.contains("his Scrubbed"), "{said}");
    assert!(said.contains("held Left(InUse"), "{said}");
    assert!(said.contains("roots Left(Unknown"), "{said}");
    assert_eq!(scene.names(), ["held", "roots"]);
}

#[test]
fn a_file_mounted_elsewhere_is_in_use() {
    let test = "a_file_mounted_elsewhere_is_in_use";
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let path = scene.file("mounted");
    let other = Scene::new("/tmp");
    let point = other.file("point");
    let found = image(&view, &path);
    let mut child = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .args(["mount --bind \"$1\" \"$2\" || exit 9; echo ready; cat", "sh"])
        .args([&path, &point])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut out, &mut line).expect("read");
    let outcome = (line == "ready\n").then(|| scrub(&view, &found));
    drop(child.stdin.take());
    let _ = child.wait();
    match outcome {
        None => println!("skipped: {test}: no mount namespaces here"),
        Some(outcome) => assert!(is_in_use(&outcome), "{outcome:?}"),
    }
    assert!(path.exists());
}

#[test]
fn huge_pages_are_judged_like_all_segments() {
    let test = "huge_pages_are_judged_like_all_segments";
    let scene = Scene::new("/tmp");
    // Mounted where nobody else sees it; one file mapped by a process that has closed it, without taking a page.
    let holder = "import mmap, os, sys\n\
        fd = os.open('held', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 2 << 20)\n\
        held = mmap.mmap(fd, 2 << 20, flags=mmap.MAP_SHARED | 0x4000)\n\
        for d in os.listdir('/proc/self/fd'):\n\
        \x20   try:\n\
        \x20       if os.readlink('/proc/self/fd/' + d).endswith('/held'): os.close(int(d))\n\
        \x20   except OSError: pass\n\
        print('ready', flush=True); sys.stdin.read()\n";
    let text = "mount -t hugetlbfs -o pagesize=2M kobj \"$1\" && cd \"$1\" && : >free || exit 9\n\
        mkfifo \"$1.go\" \"$1.ready\" || exit 9\n\
        python3 -c \"$2\" <\"$1.go\" >\"$1.ready\" &\n\
        exec 3>\"$1.go\"; read -r line <\"$1.ready\" || exit 9\n\
        cd /; KOBJ_TEST_ALL=\"$1\" \"$3\" --exact scrub_of_all --nocapture --test-threads=1; ls -A \"$1\"; exec 3>&-; wait\n";
    fs::create_dir(scene.path.join("huge")).expect("made");
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", text, "sh"])
        .arg(scene.path.join("huge"))
        .arg(holder)
        .arg(std::env::current_exe().expect("we know our own path"))
        .output()
        .expect("unshare runs");
    if output.status.code() != Some(0) {
        println!("skipped: {test}: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("free Scrubbed"), "{said}");
    assert!(said.contains("held Left(InUse"), "{said}");
    assert_eq!(said.lines().last(), Some("held"), "{said}");
}
