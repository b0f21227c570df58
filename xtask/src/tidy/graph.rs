//! The import graph: who may depend on whom, from `cargo metadata`.

use super::Finding;
use serde_json::Value;

/// One room: what it may import, and what its tests may import beyond that.
struct Room {
    package: &'static str,
    imports: &'static [&'static str],
    imports_in_tests: &'static [&'static str],
    /// Whether the room may have dependencies from outside the project.
    outside: bool,
}

const fn room(
    package: &'static str,
    imports: &'static [&'static str],
    imports_in_tests: &'static [&'static str],
    outside: bool,
) -> Room {
    Room { package, imports, imports_in_tests, outside }
}

/// The arrows. A new room is a line here, in ARCHITECTURE.md, and a reason.
const ROOMS: [Room; 16] = [
    room("kobj-abi", &[], &[], false),
    room("kobj-memory", &["kobj-abi"], &[], true),
    room("kobj-core", &["kobj-abi", "kobj-memory"], &[], true),
    room("kobj-platform", &["kobj-abi"], &[], true),
    // Of the core, host's sources name `image` alone: see `code::host_names_only_image`.
    room("kobj-host", &["kobj-abi", "kobj-platform", "kobj-core"], &[], true),
    room("kobj", &["kobj-abi", "kobj-core", "kobj-memory", "kobj-platform"], &[], true),
    room("kobj-vault", &["kobj-abi", "kobj-platform"], &[], true),
    room("kobj-cli", &["kobj-abi", "kobj-core", "kobj-host", "kobj-platform", "kobj-vault"], &[], true),
    room("kobj-sim", &["kobj-abi", "kobj-core"], &["kobj-memory"], true),
    room("kobj-conformance", &["kobj-abi", "kobj-memory", "kobj-core"], &[], true),
    room("kobj-e2e", &[], &["kobj-abi", "kobj-core", "kobj-host", "kobj-platform", "kobj-vault"], true),
    room(
        "kobj-benches",
        &["kobj", "kobj-abi", "kobj-memory", "kobj-core", "kobj-host", "kobj-platform", "kobj-vault"],
        &["kobj-abi", "kobj-core"],
        true,
    ),
    // Without an operating system: nothing from outside, and nothing that needs one.
    room("kobj-metal", &["kobj-abi", "kobj-memory", "kobj-core", "kobj-conformance"], &[], false),
    // A host of WebAssembly guests, through the published surface alone.
    room("own-type", &["kobj"], &[], true),
    room("kobj-wasm-host", &["kobj"], &[], true),
    room("xtask", &[], &[], true),
];

/// A package of the workspace and what it depends on directly.
pub(crate) struct Package {
    name: String,
    manifest: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    in_tests: bool,
    inside: bool,
}

/// Reads `cargo metadata --no-deps --format-version 1`.
pub(crate) fn packages(metadata: &str) -> Result<Vec<Package>, String> {
    let whole: Value = serde_json::from_str(metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let root = whole["workspace_root"].as_str().unwrap_or_default();
    let list = whole["packages"].as_array().ok_or("cargo metadata: no packages")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let dependency = |value: &Value| Dependency {
        name: text(&value["name"]),
        in_tests: value["kind"].as_str() == Some("dev"),
        inside: value["path"].is_string(),
    };
    let package = |value: &Value| Package {
        name: text(&value["name"]),
        manifest: text(&value["manifest_path"]).trim_start_matches(root).trim_start_matches('/').into(),
        dependencies: value["dependencies"].as_array().into_iter().flatten().map(dependency).collect(),
    };
    Ok(list.iter().map(package).collect())
}

/// Every dependency inside the project is an arrow of the table.
pub(crate) fn import_arrows(packages: &[Package]) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in packages {
        let mut breach = |why: String| found.push(Finding::new("import-arrows", &package.manifest, 1, why));
        let Some(room) = ROOMS.iter().find(|room| room.package == package.name) else {
            breach(format!("`{}` is no room: add it to xtask/src/tidy/graph.rs and ARCHITECTURE.md", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let of_tests = dependency.in_tests && room.imports_in_tests.contains(&name);
            if dependency.inside && !room.imports.contains(&name) && !of_tests {
                breach(format!("`{}` may not import `{name}`", package.name));
            } else if !dependency.inside && !room.outside && !dependency.in_tests {
                breach(format!("`{}` has no dependency from outside, `{name}` is one", package.name));
            }
        }
    }
    found
}

/// Every direct dependency from outside has its reason in ARCHITECTURE.md, which also says which rooms use it.
pub(crate) fn dependencies_are_explained(packages: &[Package], architecture: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in packages {
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.inside) {
            let name = &dependency.name;
            let row = architecture.lines().find_map(|line| line.strip_prefix(&format!("| `{name}` | ")));
            let room = package.name.strip_prefix("kobj-").unwrap_or(&package.name);
            let users = row.and_then(|row| row.split('|').next()).unwrap_or_default();
            let why = match row {
                None => format!("`{name}` has no reason in ARCHITECTURE.md's table of dependencies"),
                Some(_) if users.split([',', ' ']).any(|user| user == room) => continue,
                Some(_) => format!("ARCHITECTURE.md's table of dependencies does not say that {room} uses `{name}`"),
            };
            found.push(Finding::new("explained-dependencies", &package.manifest, 1, why));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, bool, bool)]) -> Package {
        let dependency = |(name, in_tests, inside): &(&str, bool, bool)| Dependency {
            name: (*name).into(),
            in_tests: *in_tests,
            inside: *inside,
        };
        Package {
            name: name.into(),
            manifest: "crates/x/Cargo.toml".into(),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    fn breaches(name: &str, dependencies: &[(&str, bool, bool)]) -> usize {
        import_arrows(&[package(name, dependencies)]).len()
    }

    #[test]
    fn arrows_that_are_not_in_the_table_are_seen() {
        assert_eq!(breaches("kobj-memory", &[("kobj-abi", false, true)]), 0);
        assert_eq!(breaches("kobj-memory", &[("kobj-core", false, true)]), 1);
        assert_eq!(breaches("kobj-core", &[("kobj-platform", false, true)]), 1);
        assert_eq!(breaches("kobj-cli", &[("kobj-sim", false, true)]), 1);
    }

    #[test]
    fn tests_get_their_own_arrows_and_nothing_imports_the_simulation() {
        assert_eq!(breaches("kobj-e2e", &[("kobj-host", true, true)]), 0);
        assert_eq!(breaches("kobj-e2e", &[("kobj-host", false, true)]), 1);
        for room in ROOMS {
            assert_eq!(breaches(room.package, &[("kobj-sim", true, true)]), 1, "{}", room.package);
        }
    }

    #[test]
    fn abi_has_no_dependency_and_an_unknown_room_is_refused() {
        assert_eq!(breaches("kobj-abi", &[("serde", false, false)]), 1);
        assert_eq!(breaches("kobj-host", &[("rustix", false, false)]), 0);
        assert_eq!(breaches("kobj-attic", &[]), 1);
    }

    #[test]
    fn a_dependency_without_a_reason_is_seen() {
        let packages = [package("kobj-host", &[("rustix", false, false), ("kobj-abi", false, true)])];
        assert_eq!(dependencies_are_explained(&packages, "`rustix` is nice").len(), 1);
        assert_eq!(dependencies_are_explained(&packages, "| `rustix` | cli, host | system calls |").len(), 0);
        assert_eq!(dependencies_are_explained(&packages, "| `rustix` | cli | system calls of the host |").len(), 1);
    }

    #[test]
    fn metadata_is_read_as_cargo_writes_it() {
        let text = r#"{"workspace_root":"/x","packages":[{"name":"kobj-abi","manifest_path":"/x/crates/abi/Cargo.toml",
            "dependencies":[{"name":"a","kind":null,"path":"/x/a"},{"name":"b","kind":"dev"}]}]}"#;
        let read = packages(text).unwrap();
        assert_eq!(read[0].manifest, "crates/abi/Cargo.toml");
        assert!(read[0].dependencies[0].inside && !read[0].dependencies[0].in_tests);
        assert!(!read[0].dependencies[1].inside && read[0].dependencies[1].in_tests);
        assert!(packages("{").is_err());
    }
}
