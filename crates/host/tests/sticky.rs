//! A stranger plants links in the place of stragglers, in a folder that everybody may write to, before root scrubs.

mod common;

use common::{Scene, image, scrub};
use kobj_host::kind::{Outcome, Verdict};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: &str = "import os, socket\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\nos.umask(0)\n";

/// A sticky folder open to all, beside it a file of root's that everybody may write to, and so link to.
struct Stage {
    open: Scene,
    _closed: Scene,
    victim: PathBuf,
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: {test}: not root");
            return None;
        }
        // On one file system, so that it can be linked to.
        let (open, closed) = (Scene::new("/dev/shm"), Scene::new("/dev/shm"));
        fs::set_permissions(&open.path, fs::Permissions::from_mode(0o1777)).expect("set");
        let victim = closed.file("precious");
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o666)).expect("set");
        Some(Self { open, _closed: closed, victim })
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read(&self.victim).expect("still there"), b"content", "a file of root's was harmed");
    }
}

/// Runs Python as nobody to its end; whether it did what it was to do.
fn as_nobody(script: &str, arguments: &[&Path]) -> bool {
    let mut command = Command::new("python3");
    command.args(["-c", &format!("import sys\n{NOBODY}{script}")]).args(arguments);
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn what_another_user_planted_for_a_straggler_is_left() {
    let test = "what_another_user_planted_for_a_straggler_is_left";
    let Some(stage) = Stage::new(test) else { return };
    let path = stage.open.path.join("straggler");
    let (segments, temporary) = (stage.open.as_segments(), stage.open.as_temporary());
    let file = "open(sys.argv[1], 'w').close()";
    let socket = "socket.socket(socket.AF_UNIX).bind(sys.argv[1])";
    let make = [(&segments, file), (&temporary, file), (&temporary, socket), (&temporary, "os.mkdir(sys.argv[1])")];
    let plant = [
        "os.symlink(sys.argv[2], sys.argv[1])",
        "os.link(sys.argv[2], sys.argv[1])",
        "os.symlink(os.path.dirname(sys.argv[2]), sys.argv[1])",
    ];
    for (view, made) in make {
        for planted in plant {
            if !as_nobody(made, &[&path]) {
                return println!("skipped: {test}: no python3 here");
            }
            let found = image(view, &path);
            let script = format!("p = sys.argv[1]\nos.rename(p, p + '.aside')\n{planted}");
            if !as_nobody(&script, &[&path, &stage.victim]) {
                println!("skipped: {test}: {planted}: the kernel forbids it (fs.protected_hardlinks)");
            } else {
                let outcome = scrub(view, &found);
                assert_eq!(outcome, Outcome::Left(Verdict::Replaced), "{made}, then {planted}");
                assert!(path.symlink_metadata().is_ok(), "{planted}: what was planted is not ours to take");
            }
            stage.assert_untouched();
            // A hard link is root's file, and so root's to remove.
            for name in stage.open.names() {
                let path = stage.open.path.join(name);
                if path.symlink_metadata().expect("there").is_dir() {
                    fs::remove_dir(path).expect("removed");
                } else {
                    fs::remove_file(path).expect("removed");
                }
            }
        }
    }
}
