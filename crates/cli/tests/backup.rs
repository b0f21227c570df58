//! `kobj backup`, `restore`, `vault verify` and `show` as a user runs them, with restic as the judge of what they write.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of this test's own, gone with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kobj-cli-backup-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("password"), "secret\n").unwrap();
        Self(path)
    }

    fn kobj(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
        // kobj never runs restic: there is none to be found.
        command.env_clear().env("PATH", "/nonexistent").env("KOBJ_PASSWORD_FILE", self.path("password"));
        command.args(words).current_dir(&self.0).env("XDG_STATE_HOME", &self.0).env("XDG_CACHE_HOME", &self.0);
        command.output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.kobj(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, words: &[&str]) -> (i32, String) {
        let output = self.kobj(words);
        assert!(!output.status.success(), "{words:?}: {output:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A source with a folder, a file of 3 MB, a hole, a link, and a hard link.
    fn source(&self) {
        let source = self.path("source");
        fs::create_dir_all(source.join("folder")).unwrap();
        // What no compression makes smaller.
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let noise: Vec<u8> = std::iter::repeat_with(&mut next).take(3_000_000).collect();
        fs::write(source.join("noise"), noise).unwrap();
        fs::write(source.join("folder/text"), "text\n").unwrap();
        fs::hard_link(source.join("folder/text"), source.join("second")).unwrap();
        symlink("folder/text", source.join("link")).unwrap();
        let sparse = fs::File::create(source.join("sparse")).unwrap();
        sparse.set_len(64 << 20).unwrap();
        sparse.write_all_at(b"x", 40 << 20).unwrap();
    }

    fn same(&self, restored: &Path) {
        let output = Command::new("diff").arg("-r").arg(self.path("source")).arg(restored).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_backed_up_comes_back_sparse_linked_and_the_same() {
    let place = Place::new("round");
    place.source();
    place.ok(&["vault", "init", "vault"]);
    let first = place.ok(&["backup", "source", "--to", "vault", "--tag", "a"]);
    assert!(first.contains("4 new") && first.contains("0 unchanged"), "{first}");
    let second = place.ok(&["backup", "source", "--to", "vault"]);
    assert!(second.contains("4 unchanged") && second.contains("stored 0 B"), "{second}");
    assert!(place.ok(&["vault", "verify", "vault", "--read-data"]).contains("whole"));
    place.ok(&["restore", "latest", "--vault", "vault", "--target", "out", "--verify"]);
    place.same(&place.path("out/source"));
    let of = |name: &str| fs::metadata(place.path("out/source").join(name)).unwrap();
    assert!(of("sparse").blocks() * 512 < 1 << 20, "{} blocks", of("sparse").blocks());
    assert_eq!(of("second").ino(), of("folder/text").ino());
    assert_eq!(fs::read_link(place.path("out/source/link")).unwrap(), Path::new("folder/text"));
    let shown = place.ok(&["vault", "show", "vault", "latest:source", "--raw", "--noheadings", "-o", "PATH"]);
    assert!(shown.lines().any(|line| line == "/source/noise"), "{shown}");
    // A part of it, by path and by pattern.
    place.ok(&["restore", "latest:source/folder", "--vault", "vault", "--target", "part"]);
    assert_eq!(fs::read(place.path("part/text")).unwrap(), b"text\n");
    place.ok(&["restore", "latest", "--vault", "vault", "--target", "some", "--include", "text"]);
    assert!(place.path("some/source/folder/text").exists() && !place.path("some/source/noise").exists());
}

#[test]
fn a_target_that_is_not_empty_is_refused_and_in_place_puts_right_what_differs() {
    let place = Place::new("in-place");
    place.source();
    place.ok(&["vault", "init", "vault"]);
    place.ok(&["backup", "source", "--to", "vault"]);
    place.ok(&["restore", "latest", "--vault", "vault", "--target", "out"]);
    let (code, text) = place.fails(&["restore", "latest", "--vault", "vault", "--target", "out"]);
    assert!(code == 1 && text.contains("--in-place"), "{text}");
    fs::write(place.path("out/source/folder/text"), "changed").unwrap();
    fs::write(place.path("out/source/strange"), "").unwrap();
    let planned = place.kobj(&[
        "restore",
        "latest",
        "--vault",
        "vault",
        "--target",
        "out",
        "--in-place",
        "--delete",
        "--dry-run",
    ]);
    assert!(String::from_utf8_lossy(&planned.stderr).contains("remove  source/strange"), "{planned:?}");
    assert!(place.path("out/source/strange").exists());
    place.ok(&["restore", "latest", "--vault", "vault", "--target", "out", "--in-place", "--delete"]);
    place.same(&place.path("out/source"));
}

#[test]
fn damage_is_seen_named_and_costs_what_it_must() {
    let place = Place::new("damage");
    place.source();
    place.ok(&["vault", "init", "vault"]);
    place.ok(&["backup", "source", "--to", "vault"]);
    let packs = fs::read_dir(place.path("vault/data")).unwrap().flatten();
    let packs = packs.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    let largest = packs.max_by_key(|file| file.metadata().unwrap().len()).unwrap().path();
    let mut bytes = fs::read(&largest).unwrap();
    bytes[100] ^= 1;
    fs::remove_file(&largest).unwrap();
    fs::write(&largest, bytes).unwrap();
    assert!(place.ok(&["vault", "verify", "vault"]).contains("whole"), "the data is not read without being asked");
    let output = place.kobj(&["vault", "verify", "vault", "--read-data"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("damaged: ") && text.contains("lost: /source/noise in snapshot"), "{text}");
    let (code, text) = place.fails(&["restore", "latest", "--vault", "vault", "--target", "out"]);
    assert!(code == 1 && text.contains("source/noise"), "{text}");
    assert!(!place.path("out/source/noise").exists(), "never short, never wrong");
    assert_eq!(fs::read(place.path("out/source/folder/text")).unwrap(), b"text\n");
}

#[test]
fn what_cannot_be_backed_up_ends_as_the_page_says() {
    let place = Place::new("wrong");
    place.source();
    place.ok(&["vault", "init", "vault"]);
    for (words, wanted) in [
        (&["backup", "--to", "vault"][..], "no path was named"),
        (&["backup", "missing", "--to", "vault"], "missing"),
        (&["backup", "source"], "KOBJ_VAULT"),
        (&["backup", "source", "--to", "vault", "--time", "yesterday"], "2026-11-24 12:00:00"),
        (&["restore", "latest", "--vault", "vault", "--target", "out"], "none that fits"),
    ] {
        let (code, text) = place.fails(words);
        assert!(code == 1 && text.contains(wanted), "{words:?}: {code} {text}");
    }
    assert_eq!(place.fails(&["backup", "source", "--to", "nowhere"]).0, 10);
    let planned = place.ok(&["backup", "source", "--to", "vault", "--dry-run"]);
    assert!(planned.starts_with("would store"), "{planned}");
    assert_eq!(place.ok(&["vault", "list", "vault", "--noheadings"]), "");
}

#[test]
fn both_restics_read_what_is_written_and_find_their_own_cuts_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for suite in ["bookworm", "trixie"] {
        let program = root.join(format!("target/tools/restic-{suite}/usr/bin/restic"));
        if !program.is_file() {
            println!("skipped: both_restics_read_what_is_written with {suite}: `cargo xtask ci install --install`");
            continue;
        }
        let place = Place::new(&format!("restic-{suite}"));
        place.source();
        place.ok(&["vault", "init", "vault"]);
        place.ok(&["backup", "source", "--to", "vault"]);
        let restic = |words: &[&str]| {
            let mut command = Command::new(&program);
            command
                .args(["-r", "vault", "--no-cache", "--password-file", "password"])
                .args(words)
                .current_dir(&place.0);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{words:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        restic(&["check", "--read-data"]);
        restic(&["restore", "latest", "--target", "theirs"]);
        place.same(&place.path("theirs/source"));
        let backup = restic(&["backup", "--force", "--json", "source"]);
        let summary = backup.lines().find(|line| line.contains("\"summary\"")).unwrap();
        assert!(summary.contains("\"data_blobs\":0"), "{summary}");
        // And the reverse: what restic stored we need not.
        let ours = place.ok(&["backup", "--force", "--json", "source", "--to", "vault"]);
        assert!(ours.contains("\"data_blobs\":0"), "{ours}");
        place.ok(&["restore", "latest", "--vault", "vault", "--target", "ours"]);
        place.same(&place.path("ours/source"));
    }
}
