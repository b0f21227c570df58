//! `kobj vault` on real folders: what it makes, lists, forgets, refuses, and says.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of this test's own, gone with it; vaults, passwords and the state of kobj are in it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kobj-cli-vault-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("password"), "secret\n").unwrap();
        Self(path)
    }

    fn kobj(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
        let variables =
            ["", "_FILE", "_COMMAND"].map(|end| [format!("KOBJ_PASSWORD{end}"), format!("RESTIC_PASSWORD{end}")]);
        variables.iter().flatten().for_each(|name| _ = command.env_remove(name));
        command.args(words).current_dir(&self.0).env("XDG_STATE_HOME", &self.0).env("KOBJ_PASSWORD_FILE", "password");
        command.output().unwrap()
    }

    /// What it prints; it must succeed.
    fn ok(&self, words: &[&str]) -> String {
        let output = self.kobj(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its exit code and what it says.
    fn fails(&self, words: &[&str]) -> (i32, String) {
        let output = self.kobj(words);
        assert!(!output.status.success(), "{words:?}: {output:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A restic that the project's CI unpacked beside; skips by name where there is none.
fn restic(test: &str, suite: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = root.join(format!("target/tools/restic-{suite}/usr/bin/restic"));
    if !program.is_file() {
        println!("skipped: {test} with restic of {suite}: `cargo xtask ci install --install` unpacks it beside");
        return None;
    }
    Some(program)
}

fn run_restic(place: &Place, program: &Path, words: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(["-q", "-r", "vault", "--no-cache", "--password-file", "password"]).args(words).current_dir(&place.0);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_vault_is_private_empty_and_not_made_twice() {
    let place = Place::new("init");
    assert!(place.ok(&["vault", "init", "vault"]).starts_with("made vault "));
    assert_eq!((mode(&place.path("vault")), mode(&place.path("vault/config"))), (0o700, 0o400));
    assert!(place.ok(&["vault", "cat", "vault", "config"]).contains("\"version\":2"));
    let (code, text) = place.fails(&["vault", "init", "vault"]);
    assert_eq!(code, 1);
    assert!(text.contains("there is a vault already"), "{text}");
    place.ok(&["vault", "init", "old", "--repository-version", "1", "--copy-chunker-params", "vault"]);
    let polynomial = |vault| {
        let config = place.ok(&["vault", "cat", vault, "config"]);
        config.split("chunker_polynomial").nth(1).unwrap().to_string()
    };
    assert_eq!(polynomial("old"), polynomial("vault"));
    assert!(place.ok(&["vault", "cat", "old", "config"]).contains("\"version\":1"));
}

#[test]
fn what_is_no_vault_wrong_password_and_remote_storage_have_restics_exit_codes() {
    let place = Place::new("wrong");
    place.ok(&["vault", "init", "vault"]);
    std::fs::write(place.path("other"), "another\n").unwrap();
    std::fs::create_dir(place.path("empty")).unwrap();
    assert_eq!(place.fails(&["vault", "list", "vault", "-p", "other"]).0, 12);
    for none in ["empty", "nowhere"] {
        let (code, text) = place.fails(&["vault", "list", none]);
        assert_eq!(code, 10, "{text}");
    }
    let (code, text) = place.fails(&["vault", "list", "sftp:host:/vault"]);
    assert!(code == 1 && text.contains("remote storage"), "{text}");
    let (code, text) = place.fails(&["vault", "list", "vault", "-p", "missing"]);
    assert!(code == 1 && text.contains("missing"), "{text}");
    std::fs::write(place.path("vault/config"), "x").unwrap_or_else(|_| {
        // Read-only files are no obstacle to root alone.
        std::fs::remove_file(place.path("vault/config")).unwrap();
        std::fs::write(place.path("vault/config"), "x").unwrap();
    });
    assert_eq!(place.fails(&["vault", "list", "vault"]).0, 1);
}

#[test]
fn passwords_are_added_and_removed_but_not_the_one_in_use() {
    let place = Place::new("key");
    place.ok(&["vault", "init", "vault"]);
    std::fs::write(place.path("second"), "second\n").unwrap();
    place.ok(&["vault", "key", "add", "vault", "--new-password-file", "second", "--user", "somebody"]);
    let first = place.ok(&["vault", "key", "list", "vault", "--raw", "--noheadings", "-o", "ID", "-Q", "OPENED = yes"]);
    let listed = place.ok(&["vault", "key", "list", "vault", "-p", "second"]);
    assert!(listed.contains("somebody") && listed.contains(first.trim()), "{listed}");
    let (code, text) = place.fails(&["vault", "key", "remove", "vault", first.trim()]);
    assert!(code == 1 && text.contains("opened with it"), "{text}");
    place.ok(&["vault", "key", "remove", "vault", first.trim(), "-p", "second"]);
    assert_eq!(place.fails(&["vault", "list", "vault"]).0, 12);
    place.ok(&["vault", "list", "vault", "-p", "second"]);
    let password_nowhere = std::fs::read_dir(place.path("vault/keys"))
        .unwrap()
        .flatten()
        .all(|file| !String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).contains("second"));
    assert!(password_nowhere);
}

#[test]
fn restics_snapshots_are_listed_tagged_and_forgotten_and_restic_finds_the_vault_whole() {
    for suite in ["bookworm", "trixie"] {
        let Some(program) = restic("restics_snapshots_are_listed_tagged_and_forgotten", suite) else { continue };
        let place = Place::new(&format!("forget-{suite}"));
        place.ok(&["vault", "init", "vault"]);
        std::fs::create_dir(place.path("source")).unwrap();
        for day in 1..=5 {
            std::fs::write(place.path("source/file"), format!("day {day}")).unwrap();
            let time = format!("2024-03-0{day} 12:00:00");
            run_restic(&place, &program, &["backup", "source", "--time", &time, "--host", "h", "--tag", "daily"]);
        }
        let listed = place.ok(&["vault", "list", "vault", "--raw", "--noheadings", "-o", "ID,HOST,TAGS"]);
        assert_eq!(listed.lines().filter(|line| line.ends_with(" h daily")).count(), 5, "{listed}");
        let planned = place.ok(&["vault", "forget", "vault", "--keep-last", "2", "--dry-run"]);
        assert!(planned.contains("would forget 3"), "{planned}");
        place.ok(&["vault", "forget", "vault", "--keep-last", "2"]);
        place.ok(&["vault", "tag", "vault", "--add", "kept", "latest"]);
        assert_eq!(place.ok(&["vault", "list", "vault", "--noheadings", "--tag", "daily,kept"]).lines().count(), 1);
        let seen = run_restic(&place, &program, &["snapshots", "--json"]);
        assert_eq!(seen.matches("\"short_id\"").count(), 2, "{seen}");
        assert!(seen.contains("\"original\""), "{seen}");
        run_restic(&place, &program, &["check", "--read-data"]);
        // A policy that keeps nothing is refused, and so is what empties a group.
        for words in [&["vault", "forget", "vault"][..], &["vault", "forget", "vault", "--keep-tag", "none"]] {
            assert_eq!(place.fails(words).0, 1);
        }
        // What somebody else takes away is noticed, once it was made here: tagging made it.
        run_restic(&place, &program, &["forget", "latest"]);
        let (code, text) = place.fails(&["vault", "list", "vault"]);
        assert!(code == 1 && text.contains("are not in the vault"), "{text}");
        let id = text.split("forgotten here: ").nth(1).unwrap().split('.').next().unwrap();
        place.ok(&["vault", "forget", "--made-here", "vault", id]);
        place.ok(&["vault", "list", "vault"]);
    }
}

#[test]
fn restics_locks_keep_us_out_and_ours_keep_out_restic() {
    let place = Place::new("lock");
    let Some(program) = restic("restics_locks_keep_us_out", "bookworm") else { return };
    place.ok(&["vault", "init", "vault"]);
    // A restic that holds its lock while its input does not end.
    std::fs::create_dir(place.path("source")).unwrap();
    let fifo = place.path("input");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let mut holder = Command::new(&program);
    holder.args(["-q", "-r", "vault", "--no-cache", "--password-file", "password", "backup", "--stdin"]);
    holder.current_dir(&place.0).stdin(std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap());
    let mut holder = holder.spawn().unwrap();
    // Its lock is there when the folder has an entry: waited for by listing, each look a whole start of kobj.
    while place.ok(&["vault", "list", "vault", "locks", "--noheadings", "--no-lock"]).is_empty() {
        assert!(holder.try_wait().unwrap().is_none(), "restic ended");
    }
    place.ok(&["vault", "list", "vault"]);
    let (code, text) = place.fails(&["vault", "forget", "vault", "--keep-last", "1"]);
    assert!(code == 11 && text.contains(&format!("process {}", holder.id())), "{text}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    // Young as it is, it is not stale though its process is gone.
    assert_eq!(place.ok(&["vault", "unlock", "vault"]), "0 locks removed\n");
    assert_eq!(place.ok(&["vault", "unlock", "vault", "--remove-all"]), "1 locks removed\n");
    assert_eq!(place.ok(&["vault", "forget", "vault", "--keep-last", "1"]).lines().count(), 1);
}

/// Files of the vault below a folder of it.
fn files_below(folder: &Path) -> usize {
    let below = |entry: std::fs::DirEntry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 };
    std::fs::read_dir(folder).unwrap().map(|entry| below(entry.unwrap())).sum()
}

#[test]
fn prune_says_its_plan_frees_what_was_forgotten_and_has_nothing_to_do_then() {
    let place = Place::new("prune");
    place.ok(&["vault", "init", "vault"]);
    std::fs::create_dir(place.path("source")).unwrap();
    for number in ["1", "2", "3"] {
        std::fs::write(place.path("source").join("same"), vec![b's'; 3000]).unwrap();
        std::fs::write(place.path("source").join("other"), number.repeat(20_000)).unwrap();
        place.ok(&["backup", "source", "--to", "vault", "--no-cache"]);
    }
    let prune = |words: &[&str]| place.ok(&[&["vault", "prune", "vault", "--no-cache"], words].concat());
    assert!(prune(&[]).ends_with("nothing to do\n"));
    let before = files_below(&place.path("vault/data"));
    place.ok(&["vault", "forget", "vault", "--keep-last", "1"]);
    let planned = prune(&["--max-unused", "0", "-n"]);
    assert!(planned.contains("pack anew    1 packs") && planned.ends_with("nothing was changed\n"), "{planned}");
    assert_eq!(files_below(&place.path("vault/data")), before);
    let said = prune(&["--max-unused", "0", "--json"]);
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["message_type"].as_str(), lines[1]["message_type"].as_str()), (Some("plan"), Some("summary")));
    assert_eq!((lines[0]["repack"]["packs"].as_u64(), lines[1]["packs_written"].as_u64()), (Some(1), Some(1)));
    assert!(files_below(&place.path("vault/data")) < before);
    assert!(prune(&["--max-unused", "0"]).ends_with("nothing to do\n"));
    assert!(place.ok(&["vault", "verify", "vault", "--read-data"]).ends_with("whole\n"));
    // With forget; and only a dry run does without a lock.
    std::fs::write(place.path("source").join("other"), "4").unwrap();
    place.ok(&["backup", "source", "--to", "vault", "--no-cache"]);
    let said = place.ok(&["vault", "forget", "vault", "--keep-last", "1", "--prune", "--no-cache"]);
    assert!(said.contains("forgot 1 snapshots\n") && said.contains("packs removed"), "{said}");
    assert_eq!(place.fails(&["vault", "prune", "vault", "--no-lock"]).0, 1);
    prune(&["--no-lock", "--dry-run"]);
    assert!(place.ok(&["vault", "verify", "vault", "--read-data"]).ends_with("whole\n"));
}
