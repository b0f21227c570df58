//! Programs of another Debian release, unpacked beside the project and never installed: the judges of the vault's format.

use crate::shell;
use std::fs;
use std::path::{Path, PathBuf};

/// A program, its package, and the releases whose versions are judges.
const PROGRAM: &str = "restic";
/// Release and the version it has, for whoever reads the output.
const SUITES: [(&str, &str); 2] = [("bookworm", "0.14"), ("trixie", "0.18")];

/// Where the program of that release stands.
fn program_of(suite: &str) -> PathBuf {
    folder_of(suite).join("usr/bin").join(PROGRAM)
}

fn folder_of(suite: &str) -> PathBuf {
    shell::root().join("target/tools").join(format!("{PROGRAM}-{suite}"))
}

/// Downloads and unpacks what is missing; each failure says what could not be had.
pub(super) fn unpack(may_install: bool) -> Vec<String> {
    let mut failures = Vec::new();
    for (suite, version) in SUITES.iter().filter(|(suite, _)| !program_of(suite).is_file()) {
        let what = format!("{PROGRAM} {version} of {suite} (judges the vault's format)");
        if !may_install {
            println!("skipped: {what}: not here, and neither CI=true nor --install is given");
            continue;
        }
        println!("  {what}: unpacked beside");
        if let Err(why) = unpack_one(suite) {
            failures.push(format!("{what}: {why}"));
        }
    }
    failures
}

/// Unpacks into a folder of its own name first, so that a broken download leaves no half of a program.
fn unpack_one(suite: &str) -> Result<(), String> {
    let folder = folder_of(suite);
    let work = folder.with_extension(format!("new-{}", std::process::id()));
    let result = download(suite, &work).and_then(|()| {
        _ = fs::remove_dir_all(&folder);
        fs::rename(work.join("root"), &folder).map_err(|e| format!("{}: {e}", folder.display()))
    });
    _ = fs::remove_dir_all(&work);
    result
}

fn download(suite: &str, work: &Path) -> Result<(), String> {
    let make = |path: PathBuf| fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()));
    make(work.join("lists/partial"))?;
    make(work.join("cache/archives/partial"))?;
    let list = work.join("suite.sources");
    let text = sources(&mirror()?, suite);
    fs::write(&list, text).map_err(|e| format!("{}: {e}", list.display()))?;
    let at = |name: &str, path: &Path| format!("{name}={}", path.display());
    let apt = |arguments: &[&str]| {
        let mut command = shell::command("apt-get", &["-q"]);
        for setting in [
            at("Dir::Etc::sourcelist", &list),
            "Dir::Etc::sourceparts=-".into(),
            at("Dir::State::lists", &work.join("lists")),
            at("Dir::Cache", &work.join("cache")),
            "Acquire::Languages=none".into(),
            "APT::Sandbox::User=root".into(),
        ] {
            command.args(["-o", &setting]);
        }
        shell::run(command.args(arguments).current_dir(work))
    };
    apt(&["update"])?;
    apt(&["download", PROGRAM])?;
    let package = fs::read_dir(work).map_err(|e| format!("{}: {e}", work.display()))?;
    let package = package.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "deb"));
    let package = package.ok_or("nothing was downloaded")?;
    let root = work.join("root");
    let mut command = shell::command("dpkg-deb", &["-x"]);
    shell::run(command.arg(package).arg(root))
}

/// The mirror that this machine takes Debian's main archive from.
fn mirror() -> Result<String, String> {
    let arguments = ["indextargets", "--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)", "Identifier: Packages"];
    let output = shell::command("apt-get", &arguments).output().map_err(|e| format!("apt-get indextargets: {e}"))?;
    let none = "apt knows no mirror of Debian's main archive (/etc/apt/sources.list.d): nothing to download from";
    main_archive(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| none.into())
}

fn main_archive(targets: &str) -> Option<String> {
    let mut lines = targets.lines().filter_map(|line| line.strip_suffix("|Debian|Debian"));
    lines.next().map(str::to_string)
}

fn sources(mirror: &str, suite: &str) -> String {
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let signed = if Path::new(keys).exists() { format!("Signed-By: {keys}\n") } else { String::new() };
    format!("Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n{signed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_main_archive() {
        let targets = "m/debian-security/|Debian|Debian-Security\nm/other/|Other|Other\nm/debian/|Debian|Debian\n";
        assert_eq!(main_archive(targets).as_deref(), Some("m/debian/"));
        assert_eq!(main_archive("m/other/|Other|Other\n"), None);
        assert!(sources("m/debian/", "trixie").starts_with("Types: deb\nURIs: m/debian/\nSuites: trixie\n"));
    }
}
