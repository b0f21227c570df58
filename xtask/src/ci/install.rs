//! Installs by package name what the tests need, says what and why, and names what it may not install.

use super::{Context, Outcome, beside};
use crate::shell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A Debian package and what needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    name: String,
    why: String,
}

/// What the steps need themselves: package, the program that shows that it or something else brought it, why.
const PACKAGES: [(&str, &str, &str); 7] = [
    ("gcc", "cc", "linking"),
    ("g++", "c++", "the fuzz step: libFuzzer"),
    ("valgrind", "valgrind", "the valgrind step"),
    ("qemu-system-x86", "qemu-system-x86_64", "the metal step boots an image in it"),
    ("git", "git", "the tidy step reads what git tracks"),
    ("xfsprogs", "mkfs.xfs", "the tests of judges make an xfs to judge on"),
    ("btrfs-progs", "mkfs.btrfs", "the tests of judges make a btrfs to judge on"),
];
/// What the end-to-end tests need: a line each, `NAME  # why`.
const E2E_PACKAGES: &str = "tests/e2e/packages.txt";

/// Cargo's own tools: crate, version, what needs it, arguments of its install.
const TOOLS: [(&str, &str, &str, &[&str]); 3] = [
    // Without its self-update, which would need TLS libraries to build.
    ("cargo-nextest", "0.9.143", "runs the tests", &["--no-default-features", "--features", "default-no-update"]),
    ("cargo-deny", "0.20.2", "the deny step", &[]),
    ("cargo-fuzz", "0.13.2", "the fuzz step", &[]),
];

/// Debian asks this file before it starts a service; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str = "#!/bin/sh\n# Put here by kobj's `cargo xtask ci` while it installs packages.\nexit 101\n";

/// Installs what is missing. An install that was allowed and failed is an error; one that is not allowed is named.
pub(crate) fn run(context: &mut Context) -> Result<Outcome, String> {
    let mut failures = Vec::new();
    let missing = missing_packages();
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    let forbidden_tool = why_not(context.may_install, is_root);
    let no_apt = || (!shell::on_path("apt-get")).then_some("not installed, and there is no apt-get here");
    let forbidden = forbidden_tool.or_else(no_apt);
    for Package { name, why } in &missing {
        match forbidden {
            None => println!("  package {name}: {why}"),
            Some(reason) => println!("skipped: package {name} ({why}): {reason}"),
        }
    }
    if !missing.is_empty() && forbidden.is_none() {
        let names: Vec<&str> = missing.iter().map(|package| package.name.as_str()).collect();
        failures.extend(install_packages(&names));
    }
    failures.extend(beside::unpack(context.may_install));
    for (name, version, why, features) in TOOLS.iter().filter(|(name, ..)| !has_tool(name)) {
        if let Some(reason) = forbidden_tool {
            println!("skipped: {name} ({why}): {reason}");
            continue;
        }
        println!("  {name} {version}: {why}");
        // A debug build of a tool takes a quarter of the time and is fast enough.
        let mut command = shell::cargo(&["install", "--locked", "--debug", "--version", version, name]);
        command.args(*features);
        if let Err(why) = shell::run(command.env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("RUSTFLAGS")) {
            failures.push(why);
        }
    }
    if failures.is_empty() { Ok(Outcome::Held) } else { Err(failures.join("\n")) }
}

/// Installs the package of one program of the table above; an error says what to do where that may not be.
pub(crate) fn program(program: &str, may_install: bool) -> Result<(), String> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    let Some((name, _, why)) = PACKAGES.iter().find(|(_, of, _)| *of == program) else {
        return Err(format!("{program}: no package is known for it; install it by hand"));
    };
    if let Some(reason) = why_not(may_install, is_root) {
        return Err(format!("{program}: {reason}; install package {name}, or come again as root with --install"));
    }
    println!("  package {name}: {why}");
    let failures = install_packages(&[name]);
    if shell::on_path(program) {
        Ok(())
    } else {
        Err(format!("{program}: not there after all. {}", failures.join("\n")))
    }
}

fn missing_packages() -> Vec<Package> {
    let own = PACKAGES.iter().filter(|(_, program, _)| !shell::on_path(program));
    let mut missing: Vec<Package> =
        own.map(|(name, _, why)| Package { name: (*name).into(), why: (*why).into() }).collect();
    let listed = fs::read_to_string(shell::root().join(E2E_PACKAGES)).unwrap_or_default();
    for package in listed_packages(&listed) {
        if !missing.iter().any(|other| other.name == package.name) {
            missing.push(package);
        }
    }
    missing.retain(|package| !is_installed(&package.name));
    missing
}

/// Reads `NAME  # why` lines; a line that is only a comment names nothing.
fn listed_packages(text: &str) -> Vec<Package> {
    let package = |line: &str| {
        let (name, why) = line.split_once('#').unwrap_or((line, "end-to-end tests"));
        let package = Package { name: name.trim().into(), why: why.trim().into() };
        (!package.name.is_empty()).then_some(package)
    };
    text.lines().filter_map(package).collect()
}

/// Whether the cargo tool can be called.
pub(crate) fn has_tool(name: &str) -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let root = std::env::var_os("CARGO_INSTALL_ROOT").map(PathBuf::from);
    let folders = [home, root].into_iter().flatten();
    shell::on_path(name) || folders.into_iter().any(|folder| folder.join("bin").join(name).is_file())
}

fn is_installed(name: &str) -> bool {
    let mut query = shell::command("dpkg-query", &["-W", "-f", "${db:Status-Status}", name]);
    query.stderr(Stdio::null()).output().is_ok_and(|output| output.stdout == b"installed")
}

/// Whether this release has the package at all.
fn is_known(name: &str) -> bool {
    let mut query = shell::command("apt-cache", &["policy", name]);
    query.output().is_ok_and(|output| has_candidate(&String::from_utf8_lossy(&output.stdout)))
}

fn has_candidate(policy: &str) -> bool {
    policy.lines().any(|line| line.trim().strip_prefix("Candidate: ").is_some_and(|version| version != "(none)"))
}

/// Why nothing may be installed here; `None` if it may.
const fn why_not(may_install: bool, is_root: bool) -> Option<&'static str> {
    match (may_install, is_root) {
        (false, _) => Some("not installed, and neither CI=true nor --install is given"),
        (true, false) => Some("not installed, and only root may install it"),
        (true, true) => None,
    }
}

/// Installs all at once; if that fails one by one, so that one missing package is named and hides no other.
fn install_packages(names: &[&str]) -> Vec<String> {
    let policy = match Policy::put(Path::new(POLICY)) {
        Ok(policy) => policy,
        Err(why) => return vec![why],
    };
    let apt = |arguments: &[&str]| {
        let mut command = shell::command("apt-get", &["-q", "-y", "-o", "DPkg::Lock::Timeout=300"]);
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        shell::run(&mut command)
    };
    let install = ["install", "--no-install-recommends"];
    let mut failures = Vec::new();
    if let Err(why) = apt(&["update"]) {
        println!("  {why}: going on with the lists that are here");
    }
    let (known, unknown): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| is_known(name));
    unknown.iter().for_each(|name| println!("skipped: package {name}: this release has none of that name"));
    if apt(&[&install[..], &known].concat()).is_err() {
        failures.extend(known.iter().filter_map(|name| apt(&[install[0], install[1], name]).err()));
    }
    failures.extend(policy.take_away().err());
    failures
}

/// The file that keeps services from starting, for as long as this value lives.
struct Policy {
    path: PathBuf,
    /// What stood there before, under its name meanwhile.
    before: Option<PathBuf>,
    done: bool,
}

impl Policy {
    /// Puts the file in place and sets aside what stood there; what an interrupted run of ours left counts for nothing.
    fn put(path: &Path) -> Result<Self, String> {
        let aside = path.with_extension("d.before-kobj");
        let wrong = |e: std::io::Error| format!("{}: {e}: services could start, nothing is installed", path.display());
        let ours = fs::read(path).is_ok_and(|text| text == POLICY_TEXT.as_bytes());
        if ours {
            fs::remove_file(path).map_err(wrong)?;
        } else if path.exists() {
            fs::rename(path, &aside).map_err(wrong)?;
        }
        let before = aside.exists().then_some(aside);
        let policy = Self { path: path.into(), before, done: false };
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(path).map_err(wrong)?;
        file.write_all(POLICY_TEXT.as_bytes()).map_err(wrong)?;
        Ok(policy)
    }

    /// Takes the file away and puts back what stood there.
    fn take_away(mut self) -> Result<(), String> {
        self.restore()
    }

    fn restore(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        let wrong =
            |e: std::io::Error| format!("{}: {e}: remove it by hand, or no service starts", self.path.display());
        match &self.before {
            Some(before) => fs::rename(before, &self.path).map_err(wrong),
            None => fs::remove_file(&self.path).map_err(wrong),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Err(why) = self.restore() {
            eprintln!("{why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own, gone with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kobj-xtask-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_policy_stands_while_packages_are_installed_and_no_longer() {
        let folder = Folder::new("policy");
        let path = folder.0.join("policy-rc.d");
        let policy = Policy::put(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), POLICY_TEXT);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o755);
        drop(policy);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    }

    #[test]
    fn a_policy_that_stood_there_comes_back_even_after_a_run_that_was_killed() {
        let folder = Folder::new("before");
        let path = folder.0.join("policy-rc.d");
        fs::write(&path, "theirs").unwrap();
        std::mem::forget(Policy::put(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), POLICY_TEXT);
        Policy::put(&path).unwrap().take_away().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn packages_that_are_not_there_are_missing_and_need_leave_to_be_installed() {
        assert!(!is_installed("no-such-package-of-kobj"));
        assert_eq!(why_not(false, true), Some("not installed, and neither CI=true nor --install is given"));
        assert_eq!(why_not(true, false), Some("not installed, and only root may install it"));
        assert_eq!(why_not(true, true), None);
    }

    #[test]
    fn lists_of_packages_and_their_candidates_are_read_as_written() {
        let text = "# What is needed.\n\ntmux  # a terminal\ng++\n";
        let names: Vec<String> = listed_packages(text).into_iter().map(|package| package.name).collect();
        assert_eq!(names, ["tmux", "g++"]);
        assert_eq!(listed_packages(text)[0].why, "a terminal");
        assert!(has_candidate("tmux:\n  Installed: (none)\n  Candidate: 3.3a-3\n"));
        assert!(!has_candidate("tmux:\n  Installed: (none)\n  Candidate: (none)\n") && !has_candidate(""));
    }
}
