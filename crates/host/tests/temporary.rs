//! Temporary files and folders, lock and pid files, sockets, pipes, links: what goes, and every way in which it must not.

mod common;

use common::{Other, Scene, again, image, scrub};
use kobj_abi::{Class, HostKind};
use kobj_host::hands::Hands;
use kobj_host::kind::{Outcome, Verdict};
use kobj_host::kinds;
use kobj_host::places::Before;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

fn is_in_use(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Left(Verdict::InUse(..)))
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Left(Verdict::Unknown(_)))
}

fn is_scrubbed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Scrubbed(_))
}

fn born(identity: &kobj_core::image::Identity) -> Option<kobj_core::image::Time> {
    let kobj_core::image::Identity::File { born, .. } = identity else { panic!("{identity:?}") };
    *born
}

/// Until files get a later stamp than those that are there: stamps have the grain of the kernel's tick.
fn next_tick(scene: &Scene, view: &kobj_host::view::View) {
    let stamp = scene.path.join("stamp");
    let make = || {
        fs::write(&stamp, b"").expect("written");
        let made = born(&image(view, &stamp).identity);
        fs::remove_file(&stamp).expect("removed");
        made
    };
    let first = make();
    while make() == first {}
}

fn fifo(path: &Path) {
    let made = rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0);
    made.expect("a pipe can be made");
}

#[test]
fn files_are_sorted_by_type_place_name_and_content() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let inner = scene.path.join("inner");
    fs::create_dir(&inner).expect("made");
    let cases: [(&str, &[u8], HostKind, Class); 14] = [
        ("plain", b"x", HostKind::TemporaryFile, Class::Temporary),
        ("number", b"42\n", HostKind::TemporaryFile, Class::Temporary),
        ("a.pid", b"42\n", HostKind::PidFile, Class::Temporary),
        ("b.pid", b"none\n", HostKind::TemporaryFile, Class::Temporary),
        ("c.lock", b"", HostKind::LockFile, Class::Temporary),
        (".X9-lock", b"        42\n", HostKind::LockFile, Class::Temporary),
        ("inner/plain", b"x", HostKind::TemporaryFile, Class::Output),
        ("inner/number", b"42\n", HostKind::TemporaryFile, Class::Output),
        ("inner/Cargo.lock", b"# packages\n", HostKind::TemporaryFile, Class::Output),
        ("inner/yarn.lock", b"", HostKind::TemporaryFile, Class::Output),
        ("inner/d.lock", b"42\n", HostKind::LockFile, Class::Temporary),
        ("inner/d.pid", b"42\n/data\n", HostKind::PidFile, Class::Temporary),
        ("inner/zero.pid", b"0\n", HostKind::TemporaryFile, Class::Output),
        ("inner/huge.pid", b"99999999999\n", HostKind::TemporaryFile, Class::Output),
    ];
    for (name, content, kind, class) in cases {
        let path = scene.path.join(name);
        fs::write(&path, content).expect("written");
        let found = image(&view, &path);
        assert_eq!((found.kind, found.class), (kind, class), "{name}");
    }
    let listener = UnixListener::bind(inner.join("socket")).expect("bound");
    fifo(&inner.join("fifo"));
    std::os::unix::fs::symlink("nowhere", scene.path.join("link")).expect("linked");
    for (name, kind) in
        [("inner/socket", HostKind::UnixSocket), ("inner/fifo", HostKind::Fifo), ("link", HostKind::SymbolicLink)]
    {
        let found = image(&view, &scene.path.join(name));
        assert_eq!((found.kind, found.class), (kind, Class::Temporary.min(kind.class())), "{name}");
    }
    drop(listener);
    let folder = image(&view, &inner);
    assert_eq!((folder.kind, folder.class, folder.entries), (HostKind::TemporaryFolder, Class::Temporary, 10));
    assert_eq!(folder.size, Some(1 + 3 + 11 + 3 + 9 + 2 + 12));
}

#[test]
fn a_look_sees_what_is_new_and_nothing_else() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    scene.file("old");
    scene.file("replaced");
    let inner = scene.path.join("was");
    fs::create_dir(&inner).expect("made");
    fs::write(inner.join("old.pid"), "1\n").expect("written");
    next_tick(&scene, &view);
    let before = Before::take(&view);
    scene.file("new");
    // The old file is kept under another name, so that the new one cannot get its inode.
    fs::rename(scene.path.join("replaced"), inner.join("moved")).expect("moved");
    scene.file("replaced");
    fs::write(scene.path.join("old"), b"changed").expect("written");
    fs::write(inner.join("plain"), b"x").expect("written");
    fs::write(inner.join("new.pid"), b"1\n").expect("written");
    drop(UnixListener::bind(inner.join("socket")).expect("bound"));
    fs::create_dir_all(scene.path.join("made/deep")).expect("made");
    let (found, blind) = before.candidates(&view);
    let mut names: Vec<_> = found
        .iter()
        .map(|f| String::from_utf8_lossy(&f.name).replace(scene.path.to_str().expect("plain"), ""))
        .collect();
    names.sort();
    assert_eq!(names, ["/made", "/new", "/replaced", "/was/new.pid", "/was/socket"]);
    assert!(blind.is_empty(), "{blind:?}");
    let (none, _) = Before::take(&view).candidates(&view);
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn a_folder_that_is_not_there_is_empty_and_one_that_cannot_be_read_is_said() {
    let mut view = common::view();
    view.segment_folders = vec![PathBuf::from("/nonexistent-kobj/shm")];
    let before = Before::take(&view);
    assert_eq!(before.candidates(&view), (Vec::new(), Vec::new()));
    let mut found = Vec::new();
    let seen = kinds::of(HostKind::Segment).expect("known").census(&view, &mut found);
    assert_eq!((seen, found.len()), (kobj_host::kind::Visibility::Whole, 0));
    // A file where a folder should be stands for one that cannot be listed: root can list all others.
    let scene = Scene::new("/tmp");
    view.segment_folders = vec![scene.file("file")];
    let (found, blind) = Before::take(&view).candidates(&view);
    assert_eq!((found.len(), blind.len()), (0, 1));
    assert_eq!(blind[0].0, HostKind::Segment);
}

#[test]
fn a_look_at_an_ordinary_machine_is_cheap() {
    let mut view = common::view();
    view.segment_folders = vec![PathBuf::from("/dev/shm")];
    view.temporary_folders = ["/tmp", "/var/tmp", "/run"].map(PathBuf::from).to_vec();
    let start = std::time::Instant::now();
    let before = Before::take(&view);
    let took = start.elapsed();
    let start = std::time::Instant::now();
    let (found, _) = before.candidates(&view);
    println!("before: {took:?}, after: {:?}, {} new", start.elapsed(), found.len());
}

#[test]
fn a_hundred_thousand_entries_are_listed() {
    let scene = Scene::new("/dev/shm");
    let view = scene.as_segments();
    let before = Before::take(&view);
    for number in 0..100_000 {
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            scene.path.join(number.to_string()),
            rustix::fs::FileType::RegularFile,
            0o600.into(),
            0,
        );
        made.expect("made");
    }
    let start = std::time::Instant::now();
    let (found, blind) = before.candidates(&view);
    println!("100,000 new segments listed in {:?}", start.elapsed());
    assert_eq!((found.len(), blind.len()), (100_000, 0));
    let start = std::time::Instant::now();
    let again = Before::take(&view);
    println!("100,000 old segments remembered in {:?}", start.elapsed());
    assert!(again.candidates(&view).0.is_empty());
}

#[test]
fn a_pid_file_goes_when_its_process_is_dead() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let Some(other) = Other::python("a_pid_file_goes_when_its_process_is_dead", "", &[]) else { return };
    for name in ["a.pid", "a.lock"] {
        let path = scene.path.join(name);
        fs::write(&path, format!("{}\n", other.pid())).expect("written");
        let Outcome::Left(Verdict::InUse(holders, _)) = scrub(&view, &image(&view, &path)) else { panic!("{name}") };
        assert_eq!(holders[0].pid, other.pid());
    }
    other.end();
    for name in ["a.pid", "a.lock"] {
        assert!(is_scrubbed(&scrub(&view, &image(&view, &scene.path.join(name)))), "{name}");
    }
}

#[test]
fn a_pid_that_a_younger_process_has_is_dead() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let path = scene.path.join("a.pid");
    // Init is older than any file here; a process that starts long after a file changed is simulated the other way
    // round: its number in a file of the past cannot be set (change times cannot), so a view with a younger one is used.
    let fake = scene.path.join("proc");
    fs::create_dir_all(fake.join("4711")).expect("made");
    let ticks = {
        let uptime = fs::read_to_string("/proc/uptime").expect("read");
        let seconds: f64 = uptime.split(' ').next().expect("a word").parse().expect("a number");
        (seconds as u64 + 3600) * 100
    };
    let rest = "S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0";
    fs::write(fake.join("4711/stat"), format!("4711 (x) {rest} {ticks} 0 0\n")).expect("written");
    fs::write(&path, "4711\n").expect("written");
    let found = image(&view, &path);
    let mut younger = view.clone();
    younger.proc = fake;
    let judged = kinds::of(HostKind::PidFile).expect("known").judge(
        &younger,
        &found,
        &mut kobj_host::hands::Hands::new(&mut |_| {}),
    );
    assert!(!matches!(judged, Verdict::InUse(..)), "{judged:?}");
    fs::write(younger.proc.join("4711/stat"), format!("4711 (x) {rest} 1 0 0\n")).expect("written");
    let judged = kinds::of(HostKind::PidFile).expect("known").judge(
        &younger,
        &found,
        &mut kobj_host::hands::Hands::new(&mut |_| {}),
    );
    assert!(matches!(judged, Verdict::InUse(..)), "{judged:?}");
}

#[test]
fn a_locked_file_is_a_lock_file_in_use() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let path = scene.file("plain-name");
    let script = "import fcntl; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX)";
    let Some(other) = Other::python("a_locked_file_is_a_lock_file_in_use", script, &[&path]) else { return };
    let found = image(&view, &path);
    assert_eq!(found.kind, HostKind::LockFile);
    assert!(is_in_use(&scrub(&view, &found)));
    other.end();
    assert!(is_scrubbed(&scrub(&view, &found)));
}

#[test]
fn a_socket_goes_when_nobody_has_it_bound() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let stream = scene.path.join("stream");
    let listener = UnixListener::bind(&stream).expect("bound");
    let datagram = scene.path.join("datagram");
    let bound = UnixDatagram::bind(&datagram).expect("bound");
    for path in [&stream, &datagram] {
        let found = image(&view, path);
        assert!(is_in_use(&scrub(&view, &found)), "{}", path.display());
    }
    assert_eq!(scene.names(), ["datagram", "stream"]);
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "the server has noticed nothing");
    drop((listener, bound));
    for path in [&stream, &datagram] {
        assert!(is_scrubbed(&scrub(&view, &image(&view, path))), "{}", path.display());
    }
    assert!(scene.names().is_empty());
}

#[test]
fn a_socket_name_longer_than_an_address_is_judged() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let short = scene.path.join("s");
    let long = scene.path.join("l".repeat(200));
    let listener = UnixListener::bind(&short).expect("bound");
    fs::rename(&short, &long).expect("renamed");
    let found = image(&view, &long);
    assert!(is_in_use(&scrub(&view, &found)));
    drop(listener);
    assert!(is_scrubbed(&scrub(&view, &found)));
}

/// A process that ends with the test, and whoever waits for its output with it.
struct Ending(std::process::Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Python process of that user, or of ours, that says when it is ready.
fn as_user(user: u32, script: &str, path: &Path) -> Ending {
    let become_user = format!("os.setgroups([]); os.setgid({user}); os.setuid({user})");
    let script = format!("import os, sys\n{become_user}\nprint('ready', flush=True)\n{script}\nsys.stdin.read()\n");
    let mut command = std::process::Command::new("python3");
    command.args(["-c", &script]).arg(path);
    let piped = std::process::Stdio::piped;
    let mut child = Ending(command.stdin(piped()).stdout(piped()).spawn().expect("python3"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.0.stdout.as_mut().expect("piped")), &mut line)
        .expect("read");
    assert_eq!(line, "ready\n");
    child
}

#[test]
fn a_pipe_goes_only_if_everybody_who_could_open_it_is_dead() {
    let test = "a_pipe_goes_only_if_everybody_who_could_open_it_is_dead";
    if !rustix::process::geteuid().is_root() || std::process::Command::new("python3").arg("-V").output().is_err() {
        return println!("skipped: {test}: needs root and python3");
    }
    if fs::read_link("/proc/self/ns/pid").ok() != Some("pid:[4026531836]".into()) {
        return println!("skipped: {test}: not every process can be seen from this PID namespace");
    }
    let scene = Scene::new("/tmp");
    fs::set_permissions(&scene.path, fs::Permissions::from_mode(0o755)).expect("open to all");
    let view = scene.as_temporary();
    let path = scene.path.join("pipe");
    fifo(&path);
    let found = image(&view, &path);
    // Other tests' processes may wait in opening something meanwhile, which stands in the way for that long.
    let until = |is_it: &dyn Fn(&Outcome) -> bool| {
        let begun = std::time::Instant::now();
        let mut outcome = scrub(&view, &found);
        while !is_it(&outcome) && begun.elapsed().as_secs() < 60 {
            std::thread::yield_now();
            outcome = scrub(&view, &found);
        }
        assert!(is_it(&outcome), "{outcome:?}");
    };
    let says = |part: &str| {
        until(&|outcome| matches!(outcome, Outcome::Left(Verdict::Unknown(why)) if why.contains(part)));
        assert_eq!(scene.names(), ["pipe"], "it has its name, and no folder of ours stays");
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
    says("root's");
    // A user whom nobody else is.
    let user = 2_000_000 + std::process::id();
    std::os::unix::fs::chown(&path, Some(user), Some(user)).expect("given away");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("opened");
    says("lets others in");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
    // One of the user that has nothing of it yet, one that waits in opening it, one of root's that does, one that has it.
    let idle = as_user(user, "", &path);
    says("runs as its owner");
    drop(idle);
    let waiting = as_user(user, "open(sys.argv[1])", &path);
    says("runs as its owner");
    drop(waiting);
    let waiting = as_user(0, "open(sys.argv[1])", &path);
    let wchan = format!("/proc/{}/wchan", waiting.0.id());
    while !fs::read_to_string(&wchan).expect("read").contains("wait_for_partner") {
        std::thread::yield_now();
    }
    says("waits in opening something");
    drop(waiting);
    let holding = as_user(0, "f = os.open(sys.argv[1], os.O_RDWR)", &path);
    let descriptors = format!("/proc/{}/fd", holding.0.id());
    let has_it = || {
        let mut held =
            fs::read_dir(&descriptors).expect("listed").flatten().filter_map(|d| fs::read_link(d.path()).ok());
        held.any(|target| target == path)
    };
    while !has_it() {
        std::thread::yield_now();
    }
    until(&is_in_use);
    drop(holding);
    until(&is_scrubbed);
    assert!(scene.names().is_empty());
}

#[test]
fn a_link_alone_stays() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let path = scene.path.join("link");
    std::os::unix::fs::symlink("/etc/passwd", &path).expect("linked");
    let found = image(&view, &path);
    assert!(is_unknown(&scrub(&view, &found)));
    assert_eq!(scene.names(), ["link"]);
}

/// A folder with everything in it, and a file outside that a link leads to.
fn full_folder(scene: &Scene) -> PathBuf {
    let top = scene.path.join("made");
    fs::create_dir_all(top.join("a/b/c")).expect("made");
    fs::create_dir_all(top.join("z/y")).expect("made");
    for name in ["one", "a/two", "a/b/three", "a/b/c/four", "z/y/five"] {
        fs::write(top.join(name), name).expect("written");
    }
    std::os::unix::fs::symlink(scene.file("outside"), top.join("a/link")).expect("linked");
    std::os::unix::fs::symlink(&scene.path, top.join("a/b/up")).expect("linked");
    drop(UnixListener::bind(top.join("z/socket")).expect("bound"));
    top
}

#[test]
fn a_folder_goes_with_its_tree() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let found = image(&view, &full_folder(&scene));
    assert_eq!((found.kind, found.entries), (HostKind::TemporaryFolder, 13));
    let judged =
        kinds::of(found.kind).expect("known").judge(&view, &found, &mut kobj_host::hands::Hands::new(&mut |_| {}));
    assert!(matches!(judged, Verdict::Unused(_)), "{judged:?}");
    let outcome = scrub(&view, &found);
    assert!(is_scrubbed(&outcome), "{outcome:?}");
    assert_eq!(scene.names(), ["outside"], "links were not followed");
}

#[test]
fn one_file_in_use_keeps_its_folders() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let top = full_folder(&scene);
    let found = image(&view, &top);
    let held = top.join("a/b/three");
    let script = "held = open(sys.argv[1])";
    let Some(other) = Other::python("one_file_in_use_keeps_its_folders", script, &[&held]) else { return };
    let judged =
        kinds::of(found.kind).expect("known").judge(&view, &found, &mut kobj_host::hands::Hands::new(&mut |_| {}));
    assert!(matches!(judged, Verdict::InUse(..)), "{judged:?}");
    assert!(top.join("one").exists(), "judging changes nothing");
    let outcome = scrub(&view, &found);
    assert!(is_in_use(&outcome), "{outcome:?}");
    assert!(held.exists());
    assert!(!top.join("z").exists() && !top.join("a/b/c").exists(), "all else is gone");
    other.end();
    assert!(is_scrubbed(&scrub(&view, &image(&view, &top))));
}

#[test]
fn a_process_in_a_folder_keeps_all_of_it() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let top = full_folder(&scene);
    let found = image(&view, &top);
    for script in ["import os; os.chdir(sys.argv[1])", "import os; os.open(sys.argv[1], os.O_RDONLY)"] {
        let name = "a_process_in_a_folder_keeps_all_of_it";
        let Some(other) = Other::python(name, script, &[&top.join("z")]) else { return };
        assert!(is_in_use(&scrub(&view, &found)), "{script}");
        assert!(top.join("one").exists() && top.join("z/y/five").exists());
        other.end();
    }
    assert!(is_scrubbed(&scrub(&view, &found)));
}

#[test]
fn a_mount_in_another_namespace_keeps_a_folder() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let top = full_folder(&scene);
    let found = image(&view, &top);
    let name = "a_mount_in_another_namespace_keeps_a_folder";
    // Mounted on: a tmpfs on a/b, there alone. Mounted from: z on the folder beside.
    for (mount, what) in [("-t tmpfs kobj $1/made/a/b", "on"), ("--bind $1/made/z $1/beside", "from")] {
        fs::create_dir_all(scene.path.join("beside")).expect("made");
        let text = format!("mount {mount} || exit 9; echo ready; cat");
        let mut child = std::process::Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &text, "sh"])
            .arg(&scene.path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        std::io::BufRead::read_line(&mut out, &mut line).expect("read");
        if line != "ready\n" {
            println!("skipped: {name}: no mount namespaces here");
            let _ = child.wait();
            return;
        }
        let outcome = scrub(&view, &found);
        drop(child.stdin.take());
        let _ = child.wait();
        assert!(is_in_use(&outcome), "mounted {what}: {outcome:?}");
        assert!(top.join("one").exists(), "all of it stays");
    }
    assert!(is_scrubbed(&scrub(&view, &found)));
}

#[test]
fn what_is_not_the_owners_stays_in_the_folder() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let top = full_folder(&scene);
    let found = image(&view, &top);
    let mine = image(&view, &top.join("a/two")).identity;
    let is_own = |identity: &kobj_core::image::Identity| *identity != mine;
    let mut ignore = |_| {};
    let mut hands = Hands::new(&mut ignore);
    hands.is_own = Some(&is_own);
    let outcome = kinds::of(found.kind).expect("known").scrub(&view, &found, &mut hands);
    assert!(is_unknown(&outcome), "{outcome:?}");
    assert!(top.join("a/two").exists() && !top.join("one").exists());
    drop(hands);
    // Made after the plan: the stamps of files have the grain of a tick.
    let mut hands = Hands::new(&mut ignore);
    next_tick(&scene, &view);
    let late = top.join("late");
    fs::write(&late, b"x").expect("written");
    let outcome = kinds::of(found.kind).expect("known").scrub(&view, &found, &mut hands);
    assert!(is_unknown(&outcome) && late.exists(), "{outcome:?}");
}

#[test]
fn a_deep_folder_neither_overflows_nor_loses_anything() {
    let scene = Scene::new("/tmp");
    let view = scene.as_temporary();
    let top = scene.path.join("deep");
    let mut path = top.clone();
    for _ in 0..300 {
        path.push("d");
    }
    fs::create_dir_all(&path).expect("made");
    let found = image(&view, &top);
    let outcome = scrub(&view, &found);
    assert!(is_unknown(&outcome), "too deep is said: {outcome:?}");
    assert!(path.exists(), "and nothing below is touched");
}

/// The scrubber of one race, in a process of its own.
#[test]
fn racing_socket_scrubber() {
    let Some(path) = std::env::var_os("KOBJ_TEST_SOCKET").map(PathBuf::from) else { return };
    let view = kobj_host::view::View {
        temporary_folders: vec![path.parent().expect("a folder").to_path_buf()],
        ..common::view()
    };
    let mut ignore = |_| {};
    let mut hands = Hands::new(&mut ignore);
    let kind = kinds::of(HostKind::UnixSocket).expect("known");
    let (mut gone, mut left) = (0, 0);
    while !path.with_extension("stop").exists() {
        let Ok(Some(found)) = kobj_host::classify::classify(&view, &path) else { continue };
        match kind.scrub(&view, &found, &mut hands) {
            Outcome::Scrubbed(_) => gone += 1,
            Outcome::Left(_) => left += 1,
            // The server has taken the name meanwhile: the dead one stays in its private folder, as it must.
            Outcome::Failed(why) => panic!("{why}"),
        }
    }
    println!("gone {gone} left {left}");
}

#[test]
fn a_server_that_binds_again_keeps_its_name() {
    let scene = Scene::new("/tmp");
    let path = scene.path.join("socket");
    let mut scrubber = again("racing_socket_scrubber", "KOBJ_TEST_SOCKET", &path).spawn().expect("started");
    let (mut lost, mut rounds) = (0, 0);
    while rounds < 10_000 {
        let listener = match UnixListener::bind(&path) {
            Ok(listener) => listener,
            // The dead one of the last round is still there: wait for the scrubber to take it.
            Err(_) => {
                std::thread::yield_now();
                assert!(scrubber.try_wait().expect("asked").is_none(), "the scrubber ended");
                continue;
            }
        };
        rounds += 1;
        // A living server's name is never taken for good: it may be away for a moment.
        let found = (0..100_000).any(|_| {
            let there = path.exists();
            if !there {
                std::thread::yield_now();
            }
            there
        });
        lost += u64::from(!found);
        drop(listener);
    }
    fs::write(path.with_extension("stop"), b"").expect("written");
    assert!(scrubber.wait().expect("ended").success());
    assert_eq!(lost, 0, "a living server lost its name");
}
