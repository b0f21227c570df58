//! Each layer alone finds what it claims; without it less is said, and nothing false.

use super::*;
use kobj_core::image::FileHandle;
use std::process::{Child, Command, Stdio};

const FOLDER: &str = "/dev/shm";

fn view() -> View {
    View {
        proc: "/proc".into(),
        segment_folders: vec![FOLDER.into()],
        temporary_folders: Vec::new(),
        uid: rustix::process::geteuid().as_raw(),
    }
}

/// A path in the segment folder that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(Path::new(FOLDER).join(format!("{name}-{}", std::process::id())))
    }

    fn identity(&self) -> Identity {
        identity(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn identity(path: &Path) -> Identity {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, flags).expect("statx");
    let folder = open_folder(path.parent().expect("parent")).expect("folder");
    let name = std::ffi::CString::new(path.file_name().expect("name").as_encoded_bytes()).expect("name");
    let handle = kobj_platform::file_handle::handle_at(rustix::fd::AsFd::as_fd(&folder), &name).expect("handle");
    let born = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    let born = born.then(|| Time(found.stx_btime.tv_sec * 1_000_000 + i64::from(found.stx_btime.tv_nsec) / 1000));
    let handle = FileHandle::new(handle.kind, handle.bytes());
    Identity::File { device: crate::proc::device_of(&found), inode: found.stx_ino, handle, born }
}

fn shell(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh")
}

fn nobody() -> Vec<u32> {
    Vec::new()
}

fn all(watches: &mut Watches) {
    while watches.drain(Instant::now(), &mut nobody) {}
}

/// Drains until the end of every process of the job was heard: the kernel tells of it a moment after it can be waited for.
fn until_all_ended(watches: &mut Watches) {
    let begun = Instant::now();
    loop {
        all(watches);
        if watches.family().living().is_empty() || watches.family().has_lost() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "an end was not heard");
        let set = watches.poll_set();
        let mut polled: Vec<_> =
            set.iter().map(|fd| rustix::event::PollFd::from_borrowed_fd(*fd, rustix::event::PollFlags::IN)).collect();
        let wait = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut polled, Some(&wait));
    }
}

/// Runs `script` as the job, drained once at its end.
fn run(watches: &mut Watches, script: &str) -> u32 {
    let job = shell(script);
    let root = job.id();
    watches.set_root(root);
    // Its output ends when the last process that has it ends.
    job.wait_with_output().expect("wait");
    until_all_ended(watches);
    root
}

/// The layers asked for, or the reason to skip.
fn open(test: &str, connector: bool, fanotify: bool, inotify: bool) -> Option<Watches> {
    let watches = Watches::open(&view(), None, Choice { connector, fanotify, inotify });
    let has = |layer| watches.layers().contains(&layer);
    let missing = connector && !has(Layer::Connector) || fanotify && !has(Layer::Fanotify);
    if missing {
        println!("skipped: {test}: {}", watches.absent().join("; "));
        return None;
    }
    Some(watches)
}

fn strength(watches: &Watches, path: &Scratch) -> Option<Strength> {
    watches.maker(&path.identity()).map(|made| made.strength)
}

#[test]
fn a_file_is_proved_its_maker_s_and_a_stranger_s_is_not() {
    let Some(mut watches) = open("a_file_is_proved_its_maker_s_and_a_stranger_s_is_not", true, true, true) else {
        return;
    };
    assert!(!watches.layers().contains(&Layer::Inotify), "not needed beside the exact ones");
    let (mine, other) = (Scratch::new("kobj-test-mine"), Scratch::new("kobj-test-other"));
    let begun = now();
    // A process that lives for a moment only, deep in the tree.
    let root = run(&mut watches, &format!("(sh -c ': > {} & ' &) ; wait", mine.0.display()));
    std::fs::write(&other.0, "").expect("write");
    all(&mut watches);
    let made = watches.maker(&mine.identity()).expect("known");
    assert_eq!((made.strength, made.layer), (Strength::Proof, Layer::Fanotify));
    assert_ne!(made.pid, root);
    assert_eq!(&*made.command, b"sh");
    assert!(made.window_start.0 >= begun.0 - 20_000 && made.window_end >= made.window_start);
    assert_eq!(strength(&watches, &other), None);
    assert!(watches.lost().is_empty());
    watches.close();
}

#[test]
fn without_a_connector_a_file_event_is_a_hint_and_without_events_nothing_is_known() {
    let name = "without_a_connector_a_file_event_is_a_hint_and_without_events_nothing_is_known";
    let path = Scratch::new("kobj-test-alone");
    if let Some(mut watches) = open(name, false, true, false) {
        run(&mut watches, &format!("exec 3> {}", path.0.display()));
        assert_eq!(strength(&watches, &path), Some(Strength::Hint));
        assert_eq!(watches.count(Group::Segment), None);
        watches.close();
    }
    std::fs::remove_file(&path.0).ok();
    if let Some(mut watches) = open(name, true, false, false) {
        let root = run(&mut watches, &format!(": > {}", path.0.display()));
        assert_eq!(strength(&watches, &path), None);
        assert_eq!(watches.made_by_pid(root), Some(Strength::Proof), "the tree alone proves numbers");
        assert_eq!(watches.made_by_pid(std::process::id()), None);
    }
}

#[test]
fn five_hundred_short_lives_are_all_seen() {
    let Some(mut watches) = open("five_hundred_short_lives_are_all_seen", true, false, false) else { return };
    run(&mut watches, "i=0; while [ $i -lt 500 ]; do (:); i=$((i+1)); done");
    assert_eq!(watches.process_counts(), Some((501, 501)));
    assert!(watches.living().expect("exact").is_empty());
}

#[test]
fn drained_while_it_runs_every_fork_is_known_before_its_deed() {
    let Some(mut watches) = open("drained_while_it_runs_every_fork_is_known_before_its_deed", true, true, false) else {
        return;
    };
    let path = Scratch::new("kobj-test-stream");
    let p = path.0.display();
    let mut job = shell(&format!("i=0; while [ $i -lt 400 ]; do (: > {p}); rm {p}; i=$((i+1)); done; : > {p}"));
    watches.set_root(job.id());
    while job.try_wait().expect("wait").is_none() {
        watches.drain(Instant::now(), &mut nobody);
    }
    until_all_ended(&mut watches);
    assert_eq!(watches.count(Group::Segment), Some(Count { created: 401, destroyed: 400 }));
    assert_eq!(strength(&watches, &path), Some(Strength::Proof));
    watches.close();
}

#[test]
fn commands_are_named_by_program_and_script() {
    let Some(mut watches) = open("commands_are_named_by_program_and_script", true, false, false) else { return };
    let script = Scratch::new("kobj-test-script.sh");
    std::fs::write(&script.0, "echo; read line; exit 0\n").expect("write");
    let mut job = Command::new("sh").arg(&script.0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh");
    watches.set_root(job.id());
    wait_for_a_line(&mut job);
    all(&mut watches);
    let name = script.0.file_name().expect("name").as_encoded_bytes().to_vec();
    assert_eq!(watches.family().life(job.id()).expect("lives").command.to_vec(), name);
    drop(job.stdin.take());
    job.wait().expect("wait");
    all(&mut watches);
}

fn wait_for_a_line(job: &mut Child) {
    use std::io::BufRead;
    let mut line = String::new();
    std::io::BufReader::new(job.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("read");
}

#[test]
fn a_stranger_s_inode_linked_by_the_job_is_never_proved_the_job_s() {
    let Some(mut watches) = open("a_stranger_s_inode_linked_by_the_job_is_never_proved_the_job_s", true, true, false)
    else {
        return;
    };
    let (old, new) = (Scratch::new("kobj-test-old"), Scratch::new("kobj-test-new"));
    let (old_link, new_link) = (Scratch::new("kobj-test-old-link"), Scratch::new("kobj-test-new-link"));
    std::fs::write(&old.0, "").expect("write");
    // Old enough that neither the memory of strangers nor the slack of birth times reaches it.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(60) {
        all(&mut watches);
        let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let _ = rustix::event::poll(&mut [], Some(&moment));
    }
    all(&mut watches);
    std::fs::write(&new.0, "").expect("write");
    run(
        &mut watches,
        &format!("ln {} {}; ln {} {}", old.0.display(), old_link.0.display(), new.0.display(), new_link.0.display()),
    );
    for path in [&old, &old_link, &new, &new_link] {
        assert_ne!(strength(&watches, path), Some(Strength::Proof), "{}", path.0.display());
    }
    assert_eq!(strength(&watches, &old_link), Some(Strength::Hint), "the job did link it");
    watches.close();
}

#[test]
fn an_inode_is_followed_through_links_renames_and_deletions() {
    let Some(mut watches) = open("an_inode_is_followed_through_links_renames_and_deletions", true, true, false) else {
        return;
    };
    let sem = Scratch::new("sem.kobj-test");
    let (target, gone) = (Scratch::new("kobj-test-target"), Scratch::new("kobj-test-gone"));
    // As glibc's sem_open does; a name overwritten by a rename; a name made and deleted.
    let (s, t, g) = (sem.0.display(), target.0.display(), gone.0.display());
    run(&mut watches, &format!(": > {s}tmp; ln {s}tmp {s}; rm {s}tmp; : > {t}; : > {g}; mv {g} {t}; : > {g}; rm {g}"));
    assert_eq!(strength(&watches, &sem), Some(Strength::Proof));
    assert_eq!(strength(&watches, &target), Some(Strength::Proof));
    assert_eq!(watches.count(Group::Semaphore), Some(Count { created: 1, destroyed: 0 }));
    assert_eq!(watches.count(Group::Segment), Some(Count { created: 3, destroyed: 2 }));
    let live: Vec<Creation> = watches.makers().live().map(|(_, creation)| creation.clone()).collect();
    let mut paths: Vec<PathBuf> = live.iter().filter_map(|creation| watches.path_of(creation)).collect();
    paths.sort();
    assert_eq!(paths, [target.0.clone(), sem.0.clone()]);
    watches.close();
}

#[test]
fn a_folder_that_nobody_lists_is_found_by_its_handle() {
    let Some(mut watches) = open("a_folder_that_nobody_lists_is_found_by_its_handle", true, true, false) else {
        return;
    };
    let folder = Path::new(FOLDER).join(format!("kobj-test-inner-{}", std::process::id()));
    run(&mut watches, &format!("mkdir -p {0}/a && : > {0}/a/file", folder.display()));
    let live: Vec<Creation> = watches.makers().live().map(|(_, creation)| creation.clone()).collect();
    let mut paths: Vec<PathBuf> = live.iter().filter_map(|creation| watches.path_of(creation)).collect();
    paths.sort();
    let count = watches.count(Group::Folder);
    // By a process of its own: what kobj deletes is counted as scrubbed.
    shell(&format!("rm -r {}", folder.display())).wait().expect("rm");
    assert_eq!(paths, [folder.clone(), folder.join("a"), folder.join("a/file")]);
    assert_eq!(count, Some(Count { created: 2, destroyed: 0 }));
    all(&mut watches);
    assert_eq!(watches.count(Group::Folder), Some(Count { created: 2, destroyed: 2 }));
    assert_eq!(watches.makers().live().count(), 0);
    watches.close();
}

/// Starts a process with the number `wanted`, if the machine lets us: a few tries, since others fork too.
fn with_number(wanted: u32, start: &mut dyn FnMut() -> Child) -> Option<Child> {
    for _ in 0..200 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string()).ok()?;
        let mut child = start();
        if child.id() == wanted {
            return Some(child);
        }
        drop(child.stdin.take());
        child.wait().ok()?;
    }
    None
}

#[test]
fn a_number_that_went_to_a_bystander_proves_nothing_of_either() {
    let test = "a_number_that_went_to_a_bystander_proves_nothing_of_either";
    let Some(mut watches) = open(test, true, true, false) else { return };
    let (first, second) = (Scratch::new("kobj-test-first"), Scratch::new("kobj-test-second"));
    let third = Scratch::new("kobj-test-third");
    let mut job = shell(&format!("exec 3> {}; exec 3>&-; echo; read line", first.0.display()));
    watches.set_root(job.id());
    wait_for_a_line(&mut job);
    let number = job.id();
    drop(job.stdin.take());
    job.wait().expect("wait");
    // All in one window: the job's life of the number has made a file and ended, a stranger's makes another.
    let script = format!("read line && : > {}", second.0.display());
    let Some(mut stranger) = with_number(number, &mut || shell(&script)) else {
        return println!("skipped: {test}: numbers cannot be chosen here");
    };
    use std::io::Write;
    stranger.stdin.take().expect("stdin").write_all(b"go\n").expect("write");
    stranger.wait().expect("wait");
    all(&mut watches);
    assert_eq!(strength(&watches, &first), Some(Strength::Hint));
    assert_ne!(strength(&watches, &second), Some(Strength::Proof), "the bystander's own");
    assert_eq!(watches.made_by_pid(number), Some(Strength::Hint));
    // In a later window the number is the job's alone again.
    let script = format!(": > {}; read line", third.0.display());
    let start = &mut || {
        // Others on this machine may have had the number since; not in this window.
        all(&mut watches);
        shell(&script)
    };
    let Some(mut job) = with_number(number, start) else {
        return println!("skipped: {test}: numbers cannot be chosen here");
    };
    watches.set_root(number);
    drop(job.stdin.take());
    job.wait().expect("wait");
    all(&mut watches);
    assert_eq!(strength(&watches, &third), Some(Strength::Proof));
    watches.close();
}

#[test]
fn a_full_queue_is_told_and_turns_proofs_into_hints() {
    let Some(mut watches) = open("a_full_queue_is_told_and_turns_proofs_into_hints", true, true, false) else {
        return;
    };
    watches.connector.as_ref().expect("open").set_buffer_bytes(1).expect("set");
    let path = Scratch::new("kobj-test-full");
    run(&mut watches, "i=0; while [ $i -lt 300 ]; do (:); i=$((i+1)); done");
    let root = run(&mut watches, &format!(": > {}", path.0.display()));
    assert_eq!(watches.lost().len(), 1, "{:?}", watches.lost());
    assert_ne!(strength(&watches, &path), Some(Strength::Proof));
    assert_ne!(watches.made_by_pid(root), Some(Strength::Proof));
    assert_eq!(watches.process_counts(), None);
    assert_eq!(watches.count(Group::Segment), None);
    watches.close();
}

#[test]
fn descriptors_rest_after_a_find_and_are_polled_again_after_nothing() {
    let Some(mut watches) = open("descriptors_rest_after_a_find_and_are_polled_again_after_nothing", true, true, false)
    else {
        return;
    };
    all(&mut watches);
    assert_eq!(watches.poll_set().len(), 2 + usize::from(watches.queues.is_some()), "nothing rests");
    assert_eq!(watches.next_look(Instant::now()), None);
    shell(":").wait().expect("wait");
    let at = Instant::now();
    assert!(watches.drain(at, &mut nobody));
    assert!(watches.poll_set().is_empty());
    assert!(watches.next_look(at).is_some_and(|left| left <= pace::REST));
    watches.close();
}

#[test]
fn a_look_proves_who_keeps_a_new_file_open_and_only_that() {
    let test = "a_look_proves_who_keeps_a_new_file_open_and_only_that";
    if !is_the_user(test) {
        return;
    }
    let Some(mut watches) = open(test, false, false, true) else { return };
    if !watches.layers().contains(&Layer::Inotify) {
        return println!("skipped: {test}: {:?}", watches.absent());
    }
    let (kept, closed) = (Scratch::new("kobj-test-kept"), Scratch::new("kobj-test-closed"));
    let (shared, foreign) = (Scratch::new("kobj-test-shared"), Scratch::new("kobj-test-foreign"));
    let alone = std::fs::File::create(&foreign.0).expect("create");
    // Our own open file stands in for a stranger's, which the job opens next: "made, opened" is all that inotify says.
    let stranger = std::fs::File::create(&shared.0).expect("create");
    let (k, c, s) = (kept.0.display(), closed.0.display(), shared.0.display());
    let mut job = shell(&format!("umask 077; exec 4< {s} 3> {k}; : > {c}; echo; read line"));
    watches.set_root(job.id());
    wait_for_a_line(&mut job);
    let pid = job.id();
    assert!(watches.drain(Instant::now(), &mut || vec![pid]));
    assert_eq!(strength(&watches, &kept), None, "looked at once, and again in a moment");
    while watches.drain(Instant::now(), &mut || vec![pid]) {}
    let made = watches.maker(&kept.identity()).expect("held open");
    assert_eq!((made.strength, made.pid, made.layer), (Strength::Proof, pid, Layer::Inotify));
    assert_eq!(&*made.command, b"sh");
    assert_ne!(strength(&watches, &shared), Some(Strength::Proof));
    assert_eq!(strength(&watches, &closed), None);
    assert_eq!(strength(&watches, &foreign), None);
    assert_eq!(watches.count(Group::Segment), None);
    std::fs::remove_file(&kept.0).expect("remove");
    all(&mut watches);
    assert_eq!(watches.makers().live().filter(|(_, c)| c.name.starts_with(b"kobj-test-kept")).count(), 0);
    drop((job.stdin.take(), stranger, alone));
    job.wait().expect("wait");
    watches.close();
}

/// Whether this process is to go through with the test: as root it starts the test again as a user of its own, since what
/// others run as the same user and hide could be the maker.
fn is_the_user(test: &str) -> bool {
    const INNER: &str = "KOBJ_TEST_UNPRIVILEGED";
    if std::env::var_os(INNER).is_some() || !rustix::process::geteuid().is_root() {
        return true;
    }
    let user = 1_000_000 + std::process::id();
    let arguments = [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into(), "--".into()];
    let mut command = Command::new("setpriv");
    command.args(arguments).arg(std::env::current_exe().expect("own path"));
    command.args(["--exact", &format!("watch::tests::{test}"), "--nocapture"]);
    let Ok(output) = command.env(INNER, "1").output() else {
        println!("skipped: {test}: no setpriv here");
        return false;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    false
}

/// Makes a file, maps it and closes it: the mapping keeps it open, and no event tells of the closing.
const MAPPER: &str = "
import ctypes, os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR, 0o600)
os.ftruncate(file, 4096)
call = ctypes.CDLL(None).mmap
call.restype = ctypes.c_void_p
call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
assert call(None, 4096, 3, 1, file, 0) not in (None, ctypes.c_void_p(-1).value)
os.close(file)
print(flush=True)
sys.stdin.read()
";

#[test]
fn a_file_that_a_stranger_made_and_only_has_mapped_is_not_proved_its_opener_s() {
    let test = "a_file_that_a_stranger_made_and_only_has_mapped_is_not_proved_its_opener_s";
    if !is_the_user(test) {
        return;
    }
    let Some(mut watches) = open(test, false, false, true) else { return };
    if !watches.layers().contains(&Layer::Inotify) {
        return println!("skipped: {test}: {:?}", watches.absent());
    }
    let mapped = Scratch::new("kobj-test-mapped");
    let mut python = Command::new("python3");
    python.args(["-c", MAPPER]).arg(&mapped.0).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut stranger) = python.spawn() else { return println!("skipped: {test}: no python3 here") };
    wait_for_a_line(&mut stranger);
    let mut job = shell(&format!("exec 3< {}; echo; read line", mapped.0.display()));
    let pid = job.id();
    watches.set_root(pid);
    wait_for_a_line(&mut job);
    while watches.drain(Instant::now(), &mut || vec![pid]) {}
    // By descriptors the job's process has it alone, and the two opens were told as one.
    assert_eq!(strength(&watches, &mapped), Some(Strength::Hint));
    for mut child in [stranger, job] {
        drop(child.stdin.take());
        child.wait().expect("wait");
    }
    watches.close();
}

#[test]
fn an_unprivileged_user_has_the_tree_and_the_look() {
    let test = "an_unprivileged_user_has_the_tree_and_the_look";
    if !is_the_user(test) {
        return;
    }
    let mut watches = Watches::open(&view(), None, Choice::default());
    assert!(!watches.layers().contains(&Layer::Fanotify), "root only");
    assert!(watches.absent().iter().any(|why| why.starts_with("fanotify: ")));
    if watches.layers() != [Layer::Connector, Layer::Inotify] {
        return println!("skipped: {test}: {:?}", watches.absent());
    }
    let kept = Scratch::new("kobj-test-unprivileged");
    let mut job = shell(&format!("umask 077; exec 3> {}; echo; read line", kept.0.display()));
    watches.set_root(job.id());
    wait_for_a_line(&mut job);
    while watches.drain(Instant::now(), &mut || panic!("the tree knows")) {}
    assert_eq!(strength(&watches, &kept), Some(Strength::Proof));
    drop(job.stdin.take());
    job.wait().expect("wait");
    until_all_ended(&mut watches);
    assert_eq!(watches.process_counts(), Some((1, 1)));
    watches.close();
}

/// A shell whose standard input is the folder of queues: it makes and takes away queues by name.
fn run_at_queues(watches: &mut Watches, folder: &OwnedFd, script: &str) {
    let input = Stdio::from(folder.try_clone().expect("a second descriptor"));
    let script = format!("cd /proc/self/fd/0 && {script}");
    let job = Command::new("sh").args(["-c", &script]).stdin(input).spawn().expect("sh");
    watches.set_root(job.id());
    assert!(job.wait_with_output().expect("wait").status.success());
    until_all_ended(watches);
}

#[test]
fn a_queue_is_proved_its_maker_s_and_neither_an_old_one_nor_a_stranger_s_is() {
    let name = "a_queue_is_proved_its_maker_s_and_neither_an_old_one_nor_a_stranger_s_is";
    let tag = format!("kobj-test-queue-{}", std::process::id());
    let [old, mine, brief, other, again] = ["old", "mine", "brief", "other", "again"].map(|end| format!("{tag}-{end}"));
    let Ok(folder) = posix_queue::queues(&view()) else { return println!("skipped: {name}: no queues here") };
    let make = |name: &str| {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        drop(rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o600)).expect("a queue"));
    };
    let remove = |name: &str| rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty());
    struct Removed<'f>(&'f OwnedFd, [String; 5]);
    impl Drop for Removed<'_> {
        fn drop(&mut self) {
            for name in &self.1 {
                let _ = rustix::fs::unlinkat(self.0, name, rustix::fs::AtFlags::empty());
            }
        }
    }
    let _removed = Removed(&folder, [&old, &mine, &brief, &other, &again].map(Clone::clone));
    // By default nine of the usual size are all that a user may have, and other tests want some.
    let all_may = rustix::process::Rlimit { current: None, maximum: None };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Msgqueue, all_may);
    make(&old);
    let Some(mut watches) = open(name, true, true, false) else { return };
    if watches.queues.is_none() {
        return println!("skipped: {name}: {}", watches.absent().join("; "));
    }
    make(&other);
    // The old one is opened by the job first of all after the watch; the last is the job's until it takes it away.
    run_at_queues(
        &mut watches,
        &folder,
        &format!(": >> {old} && : > {mine} && : > {brief} && rm {brief} && : > {again}"),
    );
    let maker = |watches: &Watches, name: &str| {
        let image = posix_queue::image(&folder, name.as_ref()).expect("looked at");
        let Identity::File { device, .. } = image.identity else { panic!("{:?}", image.identity) };
        (watches.maker(&image.identity), watches.sees_all_makers(device))
    };
    remove(&again).expect("removed");
    make(&again);
    all(&mut watches);
    let (made, _) = maker(&watches, &mine);
    let made = made.expect("known");
    assert_eq!((made.strength, made.layer, &*made.command), (Strength::Proof, Layer::Fanotify, &b"sh"[..]));
    for stranger in [&old, &other, &again] {
        assert_eq!(maker(&watches, stranger), (None, true), "{stranger}");
    }
    let count = watches.count(Group::Other).expect("exact");
    assert_eq!((count.created, count.destroyed), (3, 1), "brief by the job; what this process takes away is scrubbed");
    watches.close();
}
