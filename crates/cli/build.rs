//! Links the C library and the unwinder in, so that a start of `kobj` loads and relocates nothing.
//!
//! Every `kobj run` pays for its own start: loading `libc.so` and `libgcc_s.so`, looking their functions up and relocating a
//! position-independent program takes a quarter of a millisecond, which is a third of what a bare `fork` and `exec` take.
//! The standard library asks for these libraries by `-l`; linker scripts of their names in front of the search path
//! stand for the static ones. Where the compiler has no static libraries, nothing is changed.

use std::path::Path;
use std::process::Command;

/// What the standard library asks for, and what stands for it.
const STATIC: &[(&str, &str)] = &[("libgcc_s.so", "libgcc_eh.a"), ("libc.so", "libc.a"), ("libm.so", "libm.a")];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let Some(folder) = std::env::var_os("OUT_DIR") else { return };
    if std::env::var_os("CARGO_CFG_TARGET_ENV").is_none_or(|env| env != "gnu") {
        return;
    }
    let folder = Path::new(&folder).join("static");
    if std::fs::create_dir_all(&folder).is_err() {
        return;
    }
    for (shared, archive) in STATIC {
        let Some(path) = path_of(archive) else { return };
        if std::fs::write(folder.join(shared), format!("INPUT({path})\n")).is_err() {
            return;
        }
    }
    for argument in [&format!("-L{}", folder.display()), "-static-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Where the compiler finds that library, if it does.
fn path_of(archive: &str) -> Option<String> {
    let asked = Command::new("cc").arg(format!("-print-file-name={archive}")).output().ok()?;
    let path = String::from_utf8(asked.stdout).ok()?.trim().to_owned();
    Path::new(&path).is_absolute().then_some(path)
}
