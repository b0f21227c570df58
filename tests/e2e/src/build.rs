//! What tests build before they run: `kobj` itself and the small programs of `programs/`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Scripts that every place holds, so that each user can read them.
pub const SOURCES: [(&str, &str); 10] = [
    ("count.py", include_str!("../programs/count.py")),
    ("dressed.py", include_str!("../programs/dressed.py")),
    ("lock.py", include_str!("../programs/lock.py")),
    ("manager.py", include_str!("../programs/manager.py")),
    ("orphans.py", include_str!("../programs/orphans.py")),
    ("pool.py", include_str!("../programs/pool.py")),
    ("probe.py", include_str!("../programs/probe.py")),
    ("segment.py", include_str!("../programs/segment.py")),
    ("storm.py", include_str!("../programs/storm.py")),
    ("terminal.py", include_str!("../programs/terminal.py")),
];

/// The folder of this package.
#[must_use]
pub fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The `kobj` under test: `KOBJ_BIN` if that is set, else built from this workspace; copied into `folder` so that every
/// user can run it.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn kobj(folder: &Path) -> PathBuf {
    let built = env::var_os("KOBJ_BIN").map_or_else(build_kobj, PathBuf::from);
    let here = folder.join("kobj");
    if !here.exists() {
        install(&built, &here).unwrap_or_else(|error| panic!("cannot copy {}: {error}", built.display()));
    }
    here
}

fn build_kobj() -> PathBuf {
    let workspace = package().join("../..");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&workspace).args(["build", "--quiet", "--bin", "kobj"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    assert!(command.status().is_ok_and(|status| status.success()), "kobj does not build");
    let test = env::current_exe().unwrap_or_default();
    // target/PROFILE/deps/this-test
    let profile =
        test.parent().and_then(Path::parent).map_or_else(|| workspace.join("target/debug"), Path::to_path_buf);
    profile.join("kobj")
}

/// Copies a program, by way of a name of its own so that a racing test never runs a half-written file, and by another
/// process: what other tests start meanwhile would inherit a descriptor that is open for writing here, and the copy be
/// "busy".
fn install(from: &Path, to: &Path) -> io::Result<()> {
    let half = to.with_extension("half");
    let copied = Command::new("install").args(["-m", "755"]).args([from, &half]).status()?;
    if !copied.success() {
        return Err(io::Error::other(format!("install: {copied}")));
    }
    fs::rename(&half, to)
}

/// Compiles one of `programs/`, once for all tests, copies it into `folder` and gives the copy's path; `None` without a
/// compiler.
///
/// # Panics
/// If the compiler refuses the source.
#[must_use]
pub fn compile(folder: &Path, source: &str) -> Option<PathBuf> {
    let compiler = if source.ends_with(".cpp") { "g++" } else { "gcc" };
    if !crate::installed(compiler) {
        return None;
    }
    let kept = package().join("../../target/e2e-programs");
    let from = package().join("programs").join(source);
    let name = source.split('.').next().unwrap_or(source);
    let program = kept.join(name);
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if changed(&program) <= changed(&from) {
        // Racing tests each compile to a name of their own; the last rename wins.
        let half = kept.join(format!("{name}.{}", std::process::id()));
        let done = fs::create_dir_all(&kept)
            .and_then(|()| Command::new(compiler).args(["-Wall", "-O1", "-o"]).arg(&half).arg(&from).output())
            .unwrap_or_else(|error| panic!("cannot start {compiler}: {error}"));
        assert!(done.status.success(), "{source}: {}", String::from_utf8_lossy(&done.stderr));
        fs::rename(&half, &program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    }
    let here = folder.join(name);
    install(&program, &here).unwrap_or_else(|error| panic!("{}: {error}", here.display()));
    Some(here)
}

/// Builds the iceoryx2 program in a target folder that is kept between runs, copied into `folder`; `None` if its crates
/// cannot be had.
#[must_use]
pub fn iceoryx2(folder: &Path) -> Option<PathBuf> {
    let source = package().join("programs/iceoryx2");
    let target = package().join("../../target/e2e-iceoryx2");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(source.join("Cargo.toml"));
    command.arg("--target-dir").arg(&target);
    let done = command.output().ok()?;
    if !done.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&done.stderr));
        return None;
    }
    let here = folder.join("iceoryx2");
    install(&target.join("debug/kobj-e2e-iceoryx2"), &here).ok()?;
    Some(here)
}
