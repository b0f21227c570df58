//! What was published is there after any death; what is wrong with a record is an error.

use super::*;
use crate::family::PidSet;
use crate::makers::Made;
use kobj_core::image::{FileHandle, Time};
use rustix::fs::Mode;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

const GOLDEN: &str = include_str!("../../tests/golden/record-2.txt");
const INNER: &str = "KOBJ_TEST_RECORD";

/// A folder of the test's own, removed with all that is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kobj-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn open(&self) -> RuntimeFolder {
        RuntimeFolder::open_at(&self.0).expect("folder")
    }

    fn record(&self) -> Record {
        Record::create(self.open(), &beginning()).expect("record")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn beginning<'a>() -> Beginning<'a> {
    Beginning { name: b"train", settings: [2, 7], inherited: &[(1, 2), (3, 4)], told: b"told", ..Beginning::default() }
}

fn creation(number: u32) -> Creation {
    let bytes: Vec<u8> = (0..5).flat_map(|n| (number ^ n).to_le_bytes()).collect();
    let made = Made {
        pid: number,
        command: Arc::from(format!("c{}", number % 3).as_bytes()),
        window_start: Time(1_700_000_000_000_000 + i64::from(number)),
        window_end: Time(1_700_000_000_002_000 + i64::from(number)),
        strength: if number % 2 == 1 { Strength::Proof } else { Strength::Hint },
        layer: kobj_abi::Layer::Fanotify,
        is_birth: false,
    };
    Creation::example(1000 + u64::from(number), FileHandle::new(1, &bytes).expect("short"), made)
}

fn only(scratch: &Scratch) -> Found {
    let mut found = list(&scratch.open()).expect("list").found;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn what_was_published_is_read_back() {
    let scratch = Scratch::new("published");
    let mut record = scratch.record();
    record.set_group(Path::new("/sys/fs/cgroup/kobj-1"));
    record.set_cookie(b"KOBJ_JOB=1");
    record.set_command(std::process::id());
    for number in 1..2000 {
        record.publish_creation(number - 1, Some(&creation(number)));
    }
    record.publish_creation(6, None);
    record.store(layout::FOREIGN_AT, 1 << 5);
    record.store(layout::OURS_AT, 1 << 5 | 1 << 9);
    record.note(QuarantineNote::Opened("/tmp/.a".into()));
    record.note(QuarantineNote::Opened("/tmp/.b".into()));
    record.note(QuarantineNote::Closed("/tmp/.a".into()));
    let found = only(&scratch);
    assert_eq!(found.state, State::Living);
    let contents = found.contents.expect("contents");
    assert_eq!(contents.koid, record.koid());
    assert_eq!((contents.name.as_slice(), contents.settings), (&b"train"[..], [2, 7]));
    assert_eq!(
        (contents.group.as_slice(), contents.cookie.as_slice()),
        (&b"/sys/fs/cgroup/kobj-1"[..], &b"KOBJ_JOB=1"[..])
    );
    assert_eq!((contents.inherited.as_slice(), contents.told.as_deref()), (&[(1, 2), (3, 4)][..], Some(&b"told"[..])));
    assert_eq!(contents.closed_segment, None);
    assert_eq!(contents.keeper, contents.command.expect("set"));
    assert_eq!(contents.boot, boot_id().expect("boot"));
    assert_eq!(contents.notes, [PathBuf::from("/tmp/.b")]);
    assert_eq!([5, 9, 10].map(|pid| contents.made_by_pid(pid)), [Some(Strength::Hint), Some(Strength::Proof), None]);
    assert_eq!(contents.creations.len(), 1998);
    for number in (1..2000).filter(|number| *number != 7) {
        let expected = creation(number);
        assert_eq!(contents.creations.get(&(expected.device, expected.handle)), Some(&expected.made));
    }
    assert_eq!(std::fs::metadata(&found.path).expect("file").mode() & 0o7777, 0o600);
    record.remove().expect("remove");
    assert!(list(&scratch.open()).expect("list").found.is_empty());
}

#[test]
fn a_record_whose_kobj_is_dead_is_told_by_its_free_lock_and_held() {
    let scratch = Scratch::new("dead");
    drop(scratch.record());
    let found = only(&scratch);
    assert_eq!(found.state, State::Dead);
    // A listing that looks at the same moment keeps nobody from it.
    let looked_at = std::fs::File::open(&found.path).expect("open");
    rustix::fs::flock(&looked_at, FlockOperation::LockShared).expect("lock");
    assert_eq!(only(&scratch).state, State::Dead);
    let taker = std::thread::scope(|scope| {
        let path = found.path.clone();
        let folder = scratch.open();
        let taker = scope.spawn(move || {
            let found = list(&folder).expect("list").found.remove(0);
            assert_eq!(found.path, path);
            found.take().expect("free soon").map(|dead| dead.contents.is_ok())
        });
        drop(looked_at);
        taker.join().expect("joined")
    });
    assert_eq!(taker, Some(true));
    let dead = found.take().expect("free").expect("dead");
    assert_eq!(only(&scratch).state, State::Living, "held by whoever takes care of it");
    assert!(only(&scratch).take().expect("asked").is_none());
    dead.remove().expect("remove");
    assert!(found.take().expect("asked").is_none(), "somebody else has removed it");
    assert!(list(&scratch.open()).expect("list").found.is_empty());
    assert_eq!(std::fs::read_dir(&scratch.0).expect("folder").count(), 0);
}

#[test]
fn a_record_that_was_never_whole_is_removed_once_its_kobj_is_dead() {
    let scratch = Scratch::new("unfinished");
    drop(scratch.open());
    let first = |words: &[u64]| {
        let mut page: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        page.resize(layout::PAGE, 0);
        page
    };
    let (magic, version) = (layout::MAGIC, layout::VERSION);
    for (name, bytes) in [("1", vec![]), ("2", vec![0; 8192]), ("3", first(&[magic, version, layout::checksum()]))] {
        std::fs::write(scratch.0.join(name), bytes).expect("file");
    }
    assert!(list(&scratch.open()).expect("list").found.is_empty());
    assert_eq!(std::fs::read_dir(&scratch.0).expect("folder").count(), 0);
    // Another's file, a later version's, and one that somebody still writes stay.
    std::fs::write(scratch.0.join("4"), "not a record").expect("file");
    std::fs::write(scratch.0.join("5"), first(&[magic, version + 1])).expect("file");
    let written = std::fs::File::create(scratch.0.join("6")).expect("file");
    rustix::fs::flock(&written, FlockOperation::LockExclusive).expect("lock");
    assert_eq!(list(&scratch.open()).expect("list").found.len(), 3);
}

#[test]
fn eras_are_never_claimed_twice_even_when_no_file_remains() {
    let scratch = Scratch::new("eras");
    let mut last = 0;
    for _ in 0..20 {
        let record = scratch.record();
        assert!(record.era().0 > last);
        last = record.era().0;
        record.remove().expect("remove");
        // A listing by somebody else, which moves access times where the mount keeps them.
        std::fs::read_dir(&scratch.0).expect("folder").for_each(drop);
    }
}

#[test]
fn a_folder_that_is_not_ours_alone_is_refused() {
    let scratch = Scratch::new("refused");
    drop(scratch.open());
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o750)).expect("chmod");
    assert!(RuntimeFolder::open_at(&scratch.0).unwrap_err().contains("0750"));
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o700)).expect("chmod");
    let link = scratch.0.join("link");
    symlink(&scratch.0, &link).expect("symlink");
    assert!(RuntimeFolder::open_at(&link).is_err());
    std::fs::write(scratch.0.join("file"), "").expect("write");
    assert!(RuntimeFolder::open_at(&scratch.0.join("file")).is_err());
    if std::os::unix::fs::chown(&scratch.0, Some(65534), Some(65534)).is_err() {
        return println!("skipped: a_folder_that_is_not_ours_alone_is_refused: cannot give a folder away here");
    }
    assert!(RuntimeFolder::open_at(&scratch.0).unwrap_err().contains("65534"));
}

#[test]
fn what_a_scrub_of_another_boot_was_moving_goes_home_when_its_record_is_dropped() {
    let scratch = Scratch::new("boot-notes");
    let mut record = scratch.record();
    let room = scratch.0.join(format!("{}4194998-{:016x}", crate::hands::ROOM_PREFIX, 8));
    std::fs::create_dir(&room).expect("room");
    std::fs::set_permissions(&room, PermissionsExt::from_mode(0o700)).expect("chmod");
    for name in ["of-home", "of-taken"] {
        std::fs::write(room.join(name), name).expect("write");
    }
    std::fs::write(scratch.0.join("taken"), "another's").expect("write");
    record.note(QuarantineNote::Opened(room.clone()));
    record.header().set(word::BOOT, 1);
    drop(record);
    let records = list(&scratch.open()).expect("list");
    assert!(records.found.is_empty());
    assert_eq!(std::fs::read(scratch.0.join("home")).expect("home"), b"of-home");
    assert_eq!(std::fs::read(scratch.0.join("taken")).expect("there"), b"another's");
    assert_eq!(records.unrestored.len(), 1, "{records:?}");
    assert!(records.unrestored[0].contains("of-taken"), "{records:?}");
}

#[test]
fn a_record_of_another_boot_is_dropped_and_a_strange_file_is_an_error() {
    let scratch = Scratch::new("boot");
    let record = scratch.record();
    record.header().set(word::BOOT, 1);
    drop(record);
    std::fs::write(scratch.0.join("17"), "nothing").expect("write");
    std::fs::write(scratch.0.join("notes.txt"), "not ours").expect("write");
    symlink("/etc/passwd", scratch.0.join("18")).expect("symlink");
    rustix::fs::mkfifoat(rustix::fs::CWD, scratch.0.join("19"), Mode::RUSR).expect("fifo");
    let found = only(&scratch);
    assert_eq!(found.era, Era(17));
    assert_eq!(found.contents.unwrap_err(), "is not a record of kobj");
}

/// The words of a small record, made up: every writer of the format takes part.
fn example() -> Vec<AtomicU64> {
    let words: Vec<AtomicU64> =
        (0..(layout::SLOTS_AT + 3 * layout::SLOT_BYTES) / 8).map(|_| AtomicU64::new(0)).collect();
    let header = Header(&words);
    for (place, value) in [
        (word::MAGIC, layout::MAGIC),
        (word::VERSION, layout::VERSION),
        (word::LAYOUT, layout::checksum()),
        (word::KOID, 0x6924_e0a1_0000_0001),
        (word::PARENT, 0x6924_e0a0_0000_0001),
        (word::KEEPER_PID, 4700),
        (word::KEEPER_STARTED, 99_000),
        (word::COMMAND_STARTED, 99_001),
        (word::COMMAND_PID, 4701),
        (word::BOOT, 0x0123_4567_89ab_cdef),
        (word::BOOT + 1, 0xfedc_ba98_7654_3210),
        (word::PID_NAMESPACE, 4_026_531_836),
        (word::USER, 1000),
        (word::SETTINGS, 1),
        (word::SETTINGS + 1, 2000),
        (word::STARTED, 1_700_000_000_000_000),
        (word::LAST_EVENT, 1_700_000_001_000_000),
        (word::SLOTS, 3),
        (word::LAYERS, 1 << 5 | 1 << 6),
        (word::PROCESSES, 12),
        (word::PROCESSES + 1, 11),
        (word::COUNTS, 5),
        (word::COUNTS + 1, 3),
        (word::VALID, 1),
    ] {
        header.set(place, value);
    }
    header.text(layout::NAME, b"train");
    header.text(layout::GROUP, b"/sys/fs/cgroup/kobj");
    header.text(layout::COOKIE, b"KOBJ_JOB=6924e0a1:00000001");
    header.text(layout::COMMAND_LINE, b"python3\0train.py");
    header.set(layout::INHERITED, 1);
    header.set(layout::INHERITED + 1, 0x1a);
    header.set(layout::INHERITED + 2, 5);
    header.set(word::SEGMENT, layout::SEGMENT_CLOSED | 0o640 << 32 | 32769);
    header.set(word::SEGMENT + 1, 0x2a | 1000 << 32);
    header.set(word::SEGMENT + 2, 4_026_531_839);
    Header(&words[layout::TOLD_AT / 8..]).text(layout::TOLD, b"d/home/user\0");
    let note = &words[layout::NOTES_AT / 8..];
    Header(note).text(Text { word: 0, bytes: layout::PAGE - 8 }, b"/dev/shm/.kobj-6924e0a1");
    let command = &words[(layout::COMMANDS_AT + layout::COMMAND_BYTES) / 8..];
    Header(command).text(Text { word: 0, bytes: layout::COMMAND_BYTES - 8 }, b"train.py");
    Header(&words).set(layout::OURS_AT / 8 + 4701 / 64, 1 << (4701 % 64));
    Header(&words).set(layout::FOREIGN_AT / 8, 2);
    let slot = |index: usize| &words[layout::SLOTS_AT / 8 + index * 8..][..8];
    assert!(fill(slot(0), &creation(4701), 1));
    assert!(fill(slot(2), &creation(4702), 0));
    words
}

/// Every word that is not zero, one a line: its number and its value.
fn printed(words: &[AtomicU64]) -> String {
    let values = words.iter().map(|word| u64::from_le(word.load(Ordering::Relaxed)));
    let used = values.enumerate().filter(|(_, value)| *value != 0);
    used.map(|(place, value)| format!("{place:x} {value:016x}\n")).collect()
}

fn bytes_of(golden: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in golden.lines() {
        let (place, value) = line.split_once(' ').expect("two numbers");
        let at = usize::from_str_radix(place, 16).expect("place") * 8;
        bytes.resize(at, 0);
        bytes.extend(u64::from_str_radix(value, 16).expect("value").to_le_bytes());
    }
    bytes
}

#[test]
fn a_record_of_version_2_is_still_written_and_read() {
    if let Some(path) = std::env::var_os("KOBJ_WRITE_GOLDEN") {
        std::fs::write(path, printed(&example())).expect("write");
    }
    assert_eq!(printed(&example()), GOLDEN, "the format changed: give it a new version and keep reading this one");
    let contents = decode(&bytes_of(GOLDEN)).expect("decode");
    assert_eq!(contents.koid.to_string(), "6924e0a1:00000001");
    assert_eq!(contents.parent.expect("parent").to_string(), "6924e0a0:00000001");
    assert_eq!((contents.keeper, contents.command), ((4700, 99_000), Some((4701, 99_001))));
    assert_eq!(contents.command_line, [b"python3".to_vec(), b"train.py".to_vec()]);
    assert_eq!(contents.notes, [PathBuf::from("/dev/shm/.kobj-6924e0a1")]);
    assert_eq!(
        (contents.inherited.as_slice(), contents.told.as_deref()),
        (&[(0x1a, 5)][..], Some(&b"d/home/user\0"[..]))
    );
    let segment = crate::hands::ClosedSegment { id: 32769, mode: 0o640, key: 42, creator_uid: 1000 };
    assert_eq!((contents.closed_segment, contents.settled), (Some((segment, 4_026_531_839)), false));
    assert_eq!((contents.started, contents.ended), (Time(1_700_000_000_000_000), None));
    assert_eq!(contents.layers, [kobj_abi::Layer::Connector, kobj_abi::Layer::Fanotify]);
    assert_eq!((contents.processes, contents.counts[0].destroyed), ((12, 11), 3));
    assert_eq!(contents.made_by_pid(4701), Some(Strength::Proof));
    assert!(contents.foreign.contains(1) && !contents.foreign.contains(0));
    let (first, second) = (creation(4701), creation(4702));
    let made = &contents.creations[&(first.device, first.handle)];
    assert_eq!((&*made.command, made.strength, made.pid), (&b"train.py"[..], Strength::Proof, 4701));
    assert_eq!(contents.creations[&(second.device, second.handle)].strength, Strength::Hint);
    // A birth outside of the window takes the proof away, as it does in the living run.
    let at =
        |born| kobj_core::image::Identity::File { device: first.device, inode: 1, handle: Some(first.handle), born };
    let strength = |born| contents.of(&at(born)).map(|made| made.strength);
    assert_eq!(strength(Some(made.window_start)), Some(Strength::Proof));
    assert_eq!(strength(Some(Time(made.window_start.0 - 1_000_000))), Some(Strength::Hint));
    assert_eq!(strength(None), Some(Strength::Hint));
}

#[test]
fn what_is_too_long_for_its_place_is_cut_or_left_out() {
    let scratch = Scratch::new("long");
    let (inherited, told) = (vec![(1, 1); 100], vec![b'x'; layout::TOLD.bytes + 1]);
    let record = Record::create(scratch.open(), &Beginning { inherited: &inherited, told: &told, ..beginning() })
        .expect("record");
    let contents = only(&scratch).contents.expect("contents");
    assert_eq!((contents.inherited.len(), contents.told), (layout::INHERITED_MAX, None));
    record.remove().expect("remove");
    let record = Record::create(scratch.open(), &Beginning { told: &told[1..], ..beginning() }).expect("record");
    assert_eq!(only(&scratch).contents.expect("contents").told.as_deref(), Some(&told[1..]));
    record.remove().expect("remove");
}

#[test]
fn a_segment_that_is_closed_is_in_the_record() {
    let scratch = Scratch::new("segment");
    let mut record = scratch.record();
    let segment = crate::hands::ClosedSegment { id: 0x7fff_0001, mode: 0o777, key: -2, creator_uid: u32::MAX };
    record.note(QuarantineNote::SegmentClosed(segment));
    let closed = only(&scratch).contents.expect("contents").closed_segment.expect("closed");
    assert_eq!(closed, (segment, ipc_namespace().expect("ours")));
    record.note(QuarantineNote::SegmentOpen);
    assert_eq!(only(&scratch).contents.expect("contents").closed_segment, None);
}

/// A kobj that was exchanged meanwhile says which version it cannot read, and leaves the record to the other one.
#[test]
fn a_record_of_version_1_is_refused_by_its_number() {
    let mut bytes = bytes_of(GOLDEN);
    bytes[word::VERSION * 8] = 1;
    assert_eq!(decode(&bytes).unwrap_err(), "has version 1; this kobj reads version 2");
    assert!(!decode::is_unfinished(&bytes));
}

#[test]
fn hostile_bytes_are_an_error_or_a_record_and_never_a_panic() {
    let whole = bytes_of(GOLDEN);
    for length in (0..whole.len()).step_by(8).filter(|at| *at < 8192 || at % 4093 < 8) {
        let _ = decode(&whole[..length]);
    }
    // Every word that is used, with values that break lengths, indexes and times.
    for line in GOLDEN.lines() {
        let place = usize::from_str_radix(line.split_once(' ').expect("two").0, 16).expect("place");
        for value in [0, 1, u64::MAX, u64::MAX >> 1, 1 << 32, 0xff00, 0xffff_0000_0000] {
            let mut bytes = whole.clone();
            bytes[place * 8..place * 8 + 8].copy_from_slice(&value.to_le_bytes());
            let _ = decode(&bytes);
        }
    }
    assert_eq!(decode(&vec![0; layout::END + 1]).unwrap_err(), "is longer than any record");
    let mut newer = whole;
    newer[8] = 3;
    assert_eq!(decode(&newer).unwrap_err(), "has version 3; this kobj reads version 2");
    assert!(PidSet::from_words(vec![1; 1 << 20]).words().len() <= 1 << 16);
}

/// Runs one test of this file again in a process of its own, by a program before it if need be.
fn inner(test: &str, value: &std::ffi::OsStr, before: &[&str]) -> Command {
    let own = std::env::current_exe().expect("own path");
    let (program, arguments) = before.split_first().map_or((own.as_os_str(), &[][..]), |(p, a)| (p.as_ref(), a));
    let mut command = Command::new(program);
    command.args(arguments);
    if !before.is_empty() {
        command.arg(&own);
    }
    command.args(["--exact", &format!("record::tests::{test}"), "--nocapture"]).env(INNER, value);
    command
}

#[test]
fn killed_at_any_moment_all_that_was_published_is_there() {
    let test = "killed_at_any_moment_all_that_was_published_is_there";
    if let Some(path) = std::env::var_os(INNER) {
        let mut record =
            Record::create(RuntimeFolder::open_at(Path::new(&path)).expect("folder"), &beginning()).expect("record");
        for number in 1..100_000 {
            record.publish_creation(number - 1, Some(&creation(number)));
            println!("published {number}");
        }
        return;
    }
    // Fifty moments, spread over the growth of the file, from a generator with a printed seed.
    let mut seed = u64::from(std::process::id()) | 1;
    println!("seed {seed}");
    for round in 0..50 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wanted = seed >> 33 & 0x7ff;
        let scratch = Scratch::new(&format!("killed-{round}"));
        let mut child = inner(test, scratch.0.as_os_str(), &[]).stdout(Stdio::piped()).spawn().expect("spawn");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let mut last = 0;
        while u64::from(last) <= wanted {
            let line = lines.next().expect("line").expect("read");
            // The test runner's own words may stand before the first.
            let number = line.rsplit_once("published ").and_then(|(_, number)| number.parse().ok());
            last = number.unwrap_or(last);
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        let found = only(&scratch);
        assert_eq!(found.state, State::Dead);
        let contents = found.contents.expect("decodes");
        for number in 1..=last {
            let expected = creation(number);
            assert_eq!(
                contents.creations.get(&(expected.device, expected.handle)),
                Some(&expected.made),
                "round {round}"
            );
        }
        for ((device, handle), made) in &contents.creations {
            let expected = creation(u32::try_from(device - 1000).expect("ours"));
            assert_eq!((handle, made), (&expected.handle, &expected.made), "half an entry, round {round}");
        }
    }
}

#[test]
fn without_room_the_run_goes_on_and_says_so() {
    let test = "without_room_the_run_goes_on_and_says_so";
    if let Some(path) = std::env::var_os(INNER) {
        let small = Path::new(&path).join("small");
        // Room for the header's granule and little more: all else must be refused, and nothing touched.
        let mut record = Record::create(RuntimeFolder::open_at(&small).expect("folder"), &beginning()).expect("record");
        record.publish_creation(0, Some(&creation(1)));
        record.store(layout::OURS_AT, 1);
        assert!(record.unrecoverable().is_some_and(|why| why.contains("No space")), "{:?}", record.unrecoverable());
        let found = list(&RuntimeFolder::open_at(&small).expect("folder")).expect("list").found.remove(0);
        assert!(found.contents.expect("contents").lost);
        // With less room there is no record, and no file is left behind.
        let refused = Record::create(RuntimeFolder::open_at(&small).expect("folder"), &beginning());
        assert!(refused.is_err());
        assert_eq!(std::fs::read_dir(&small).expect("folder").count(), 1);
        return;
    }
    let scratch = Scratch::new("full");
    std::fs::create_dir_all(scratch.0.join("small")).expect("folder");
    let mount = format!("mount -t tmpfs -o size=96k,mode=0700 none {}/small && exec \"$@\"", scratch.0.display());
    let before = ["unshare", "--mount", "sh", "-c", &mount, "sh"];
    let able = Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success());
    if !able {
        return println!("skipped: {test}: no mount namespace here");
    }
    let output = inner(test, scratch.0.as_os_str(), &before).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
