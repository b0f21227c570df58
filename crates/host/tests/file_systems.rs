//! The write lease as judge on the file systems that it counts on besides tmpfs and ext4, and on one where it does not.
//!
//! Each is made in a file and mounted in a mount namespace of the test's own, which takes the mount along when it ends.

mod common;

use common::{Other, Scene, again, image, scrub};
use kobj_host::kind::{Outcome, Verdict};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the test, when it is started again, that it stands in a mount namespace of its own; the value is its folder.
const INSIDE: &str = "KOBJ_TEST_MOUNTS";

/// Goes on inside a mount namespace of our own. Outside: starts the test there, and says why if it cannot be.
fn inside(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return Some(folder.into());
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {test}: only root may mount");
        return None;
    }
    let scene = Scene::new("/tmp");
    let inner = again(test, INSIDE, &scene.path);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(inner.get_program()).args(inner.get_args());
    let Ok(output) = command.env(INSIDE, &scene.path).output() else {
        println!("skipped: {test}: no unshare here");
        return None;
    };
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if errors.starts_with("unshare:") {
        println!("skipped: {test}: {errors}");
        return None;
    }
    print!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
    None
}

/// Whether the command could be run and did its work; else says that the test is skipped.
fn done(test: &str, command: &mut Command) -> bool {
    let program = command.get_program().to_string_lossy().into_owned();
    let why = match command.output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        Err(error) => error.to_string(),
    };
    println!("skipped: {test}: {program}: {why}");
    false
}

fn is_known_to_the_kernel(test: &str, kind: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_known = known.split_whitespace().any(|word| word == kind);
    if !is_known {
        println!("skipped: {test}: this kernel has no {kind}");
    }
    is_known
}

/// A fresh file system of that kind, mounted in `folder`.
fn mounted(test: &str, folder: &Path, kind: &str, bytes: u64) -> Option<PathBuf> {
    if !is_known_to_the_kernel(test, kind) {
        return None;
    }
    let (disk, at) = (folder.join("disk"), folder.join("at"));
    // Sparse: only what is written takes room.
    fs::File::create(&disk).and_then(|file| file.set_len(bytes)).expect("a file for the disk");
    fs::create_dir(&at).expect("a folder to mount on");
    let made = done(test, Command::new(format!("mkfs.{kind}")).arg("-q").arg(&disk));
    let on = |command: &mut Command| done(test, command.args(["-t", kind, "-o", "loop"]).arg(&disk).arg(&at));
    (made && on(&mut Command::new("mount"))).then_some(at)
}

fn is_in_use(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Left(Verdict::InUse(..)))
}

/// Keeps a file that is open, or mapped, or mapped with its descriptor closed; lets each go afterwards, and no other.
fn judges(test: &str, folder: &Path) {
    let scene = Scene::new(folder.to_str().expect("plain"));
    let view = scene.as_segments();
    let unused = image(&view, &scene.file("unused"));
    let outcome = scrub(&view, &unused);
    assert!(matches!(outcome, Outcome::Scrubbed(_)), "{outcome:?}");
    assert_eq!(scrub(&view, &unused), Outcome::Left(Verdict::Gone));
    let map = "import ctypes, os\n\
        call = ctypes.CDLL(None).mmap\n\
        call.restype = ctypes.c_void_p\n\
        call.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]\n\
        f = os.open(sys.argv[1], os.O_RDWR)\n\
        assert call(None, 7, 1, 1, f, 0) != ctypes.c_void_p(-1).value\n";
    let closed = format!("{map}os.close(f)\n");
    let ways = [("open", "f = open(sys.argv[1], 'rb')"), ("mapped", map), ("mapped-and-closed", closed.as_str())];
    for (name, script) in ways {
        let path = scene.file(name);
        let found = image(&view, &path);
        let Some(other) = Other::python(test, script, &[&path]) else { return };
        let outcome = scrub(&view, &found);
        assert!(is_in_use(&outcome), "{name}: {outcome:?}");
        assert_eq!(scene.names(), [name], "it keeps its name, and no folder of ours stays");
        assert_eq!(fs::read(&path).expect("read"), b"content");
        other.end();
        let outcome = scrub(&view, &found);
        assert!(matches!(outcome, Outcome::Scrubbed(_)), "{name}: {outcome:?}");
        assert!(scene.names().is_empty(), "{:?}", scene.names());
    }
}

#[test]
fn the_lease_judges_on_xfs() {
    let test = "the_lease_judges_on_xfs";
    let Some(folder) = inside(test) else { return };
    // mkfs.xfs makes none that is smaller.
    let Some(at) = mounted(test, &folder, "xfs", 300 << 20) else { return };
    judges(test, &at);
}

#[test]
fn the_lease_judges_on_btrfs() {
    let test = "the_lease_judges_on_btrfs";
    let Some(folder) = inside(test) else { return };
    let Some(at) = mounted(test, &folder, "btrfs", 128 << 20) else { return };
    judges(test, &at);
    // A subvolume has a device number of its own on the same mount.
    let volume = at.join("volume");
    if done(test, Command::new("btrfs").args([OsStr::new("subvolume"), OsStr::new("create"), volume.as_os_str()])) {
        judges(test, &volume);
    }
}

#[test]
fn an_overlay_has_no_judge() {
    let test = "an_overlay_has_no_judge";
    let Some(folder) = inside(test) else { return };
    if !is_known_to_the_kernel(test, "overlay") {
        return;
    }
    let room = folder.join("room");
    fs::create_dir(&room).expect("made");
    // An overlay's upper layer may not lie on an overlay, as /tmp of a container does.
    if !done(test, Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&room)) {
        return;
    }
    let [lower, upper, work, at] = ["lower", "upper", "work", "at"].map(|name| room.join(name));
    [&lower, &upper, &work, &at].into_iter().for_each(|path| fs::create_dir(path).expect("made"));
    let layers = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    if !done(test, Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&at)) {
        return;
    }
    let scene = Scene::new(at.to_str().expect("plain"));
    let view = scene.as_segments();
    let path = scene.file("file");
    let found = image(&view, &path);
    // Who has the upper file open is not seen by a lease on the merged one, which would be granted.
    let below = upper.join(path.strip_prefix(&at).expect("below"));
    let Some(other) = Other::python(test, "f = open(sys.argv[1], 'r+b')", &[&below]) else { return };
    let outcome = scrub(&view, &found);
    assert!(matches!(outcome, Outcome::Left(Verdict::Unknown(_))), "{outcome:?}");
    other.end();
    // Nobody has it any more, but who can tell?
    let outcome = scrub(&view, &found);
    assert!(matches!(outcome, Outcome::Left(Verdict::Unknown(_))), "{outcome:?}");
    assert_eq!(scene.names(), ["file"]);
}
