//! Backups against the real restic, 0.14 and 0.18: it checks, restores and goes on from what is written here, and the reverse.

use kobj_vault::backup::{self, Options, Parent, Report, Silent};
use kobj_vault::chunk::{Polynomial, Wish};
use kobj_vault::config::Version;
use kobj_vault::index::{Cache, Index};
use kobj_vault::key_file::{Cost, Origin};
use kobj_vault::password::Password;
use kobj_vault::repository::{InitOptions, Repository};
use kobj_vault::source::files::{self, Walk};
use kobj_vault::storage::local::LocalStorage;
use kobj_vault::tree::Zone;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kobj-vault-restic-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The judges that are here: unpacked beside the project by `cargo xtask ci`, else the machine's own.
fn judges(test: &str) -> Vec<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let mut found = Vec::new();
    for suite in ["bookworm", "trixie"] {
        let program = tools.join(format!("restic-{suite}/usr/bin/restic"));
        if program.is_file() {
            found.push(program);
        } else {
            println!("skipped: {test}: restic of {suite} is not unpacked: run `cargo xtask ci`");
        }
    }
    if found.is_empty() && Path::new("/usr/bin/restic").is_file() {
        found.push("/usr/bin/restic".into());
    }
    found
}

/// Runs it and returns what it printed; it must succeed.
fn restic(program: &Path, vault: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(["--no-cache", "-r"]).arg(vault).args(arguments).env("RESTIC_PASSWORD", "secret").env_remove("TZ");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program:?} {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

fn corpus(root: &Path) {
    fs::create_dir_all(root.join("deep/er/still")).unwrap();
    for name in
        [&b"new\nline"[..], b"<html>&amp;", b"\xff\xfe", b"tab\t\"quote\\", "\u{2028}é\u{ad}".as_bytes(), &[b'a'; 255]]
    {
        fs::write(root.join("deep").join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    for (name, length) in [
        ("minimum", 512 * 1024),
        ("below", 512 * 1024 - 1),
        ("above", 512 * 1024 + 1),
        ("big", 20_000_000),
        ("empty", 0),
    ] {
        fs::write(root.join(name), noise(length as u64, length)).unwrap();
    }
    fs::write(root.join("same"), vec![b'x'; 9_000_000]).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(30_000_001).unwrap();
    sparse.write_all_at(&noise(7, 900_000), 11_111_111).unwrap();
    symlink("no/where", root.join("link")).unwrap();
    fs::hard_link(root.join("big"), root.join("deep/er/hard")).unwrap();
    fs::set_permissions(root.join("below"), fs::Permissions::from_mode(0o4711)).unwrap();
    let value = [0, 255, b'<'];
    if let Err(why) = rustix::fs::setxattr(root.join("same"), "user.kept", &value, rustix::fs::XattrFlags::empty()) {
        println!("skipped: attributes of the corpus: {why}");
    }
    let old = fs::File::options().write(true).open(root.join("above")).unwrap();
    old.set_modified(UNIX_EPOCH - Duration::from_millis(123_456_789_500)).unwrap();
}

fn ours(vault: &Path, password: &Password, source: &Path, parent: Option<Parent>) -> Report {
    let repository = Repository::open(Arc::new(LocalStorage::open(vault).unwrap()), password).unwrap();
    let index = Index::load(&repository, &Cache::None).unwrap();
    let mut walk = Walk::new(&[source.to_path_buf()], files::Options::default()).unwrap();
    let options = Options {
        paths: vec![source.to_str().unwrap().to_string()],
        hostname: "judge".to_string(),
        username: "root".to_string(),
        owner: (0, 0),
        tags: Vec::new(),
        excludes: Vec::new(),
        time: None,
        zone: Zone::local(),
        chunks: Wish::Suitable,
        rechunk: false,
        rehash: false,
        dry_run: false,
        program_version: "kobj 0.1.0".to_string(),
    };
    let report =
        backup::backup(&repository, &index, &mut walk, parent.as_ref(), &options, &|| Ok(()), &mut Silent).unwrap();
    assert!(report.is_complete(), "{report:?}");
    report
}

/// The last message of `restic backup --json`.
fn summary(text: &str) -> serde_json::Value {
    let line = text.lines().rfind(|line| line.contains("\"summary\"")).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn restic_checks_restores_and_goes_on_from_what_we_wrote() {
    for program in judges("restic_checks_restores") {
        let scratch = Scratch::new("forth");
        let (source, vault) = (scratch.0.join("in"), scratch.0.join("vault"));
        fs::create_dir(&source).unwrap();
        corpus(&source);
        let password = Password::new("secret");
        let options = InitOptions {
            version: Version::Two,
            chunker_polynomial: Polynomial::random().unwrap().bits(),
            cost: Cost::TEST,
            origin: Origin::here(),
        };
        Repository::init(Arc::new(LocalStorage::create(&vault).unwrap()), &password, &options).unwrap();
        let report = ours(&vault, &password, &source, None);
        restic(&program, &vault, &["check", "--read-data"]);

        let target = scratch.0.join("out");
        restic(&program, &vault, &["restore", "latest", "--target", target.to_str().unwrap()]);
        let restored = target.join(source.strip_prefix("/").unwrap());
        let differ = Command::new("diff").args(["-r", "--no-dereference"]).args([&source, &restored]).status().unwrap();
        assert!(differ.success(), "what restic restored differs");

        // As its own: our snapshot is its parent, and nothing has to be read.
        let arguments = ["backup", "--json", "--host", "judge", source.to_str().unwrap()];
        let goes_on = summary(&restic(&program, &vault, &arguments));
        assert_eq!(goes_on["files_unmodified"], report.summary.files_new, "{goes_on}");
        assert_eq!((&goes_on["data_blobs"], &goes_on["files_changed"]), (&0.into(), &0.into()), "{goes_on}");
        // Read anew, everything is cut and written the same, the trees to the byte but for folders that others change.
        let forced = summary(&restic(&program, &vault, &[&arguments[..], &["--force"]].concat()));
        assert_eq!(forced["data_blobs"], 0, "{forced}");
        assert!(forced["tree_blobs"].as_u64().unwrap() <= 2, "only folders above may differ: {forced}");

        // An image, cut at fixed sizes, comes back whole too.
        let (image, bytes) = (source.join("disk.vdi"), noise(9, 3_333_333));
        fs::write(&image, &bytes).unwrap();
        ours(&vault, &password, &source, None);
        restic(&program, &vault, &["check", "--read-data"]);
        let target = scratch.0.join("image");
        let one = ["restore", "latest", "--include", image.to_str().unwrap(), "--target", target.to_str().unwrap()];
        restic(&program, &vault, &one);
        assert_eq!(fs::read(target.join(image.strip_prefix("/").unwrap())).unwrap(), bytes);
    }
}

#[test]
fn we_go_on_from_what_restic_wrote() {
    for program in judges("we_go_on_from") {
        let scratch = Scratch::new("back");
        let (source, vault) = (scratch.0.join("in"), scratch.0.join("vault"));
        fs::create_dir(&source).unwrap();
        corpus(&source);
        restic(&program, &vault, &["init"]);
        restic(&program, &vault, &["backup", "--host", "judge", source.to_str().unwrap()]);
        let password = Password::new("secret");
        let forced = ours(&vault, &password, &source, None);
        assert_eq!(forced.summary.data_blobs, 0, "cut as restic cut it");
        assert!(forced.summary.tree_blobs <= 2, "only folders above may differ: {:?}", forced.summary);
        let parent = Parent { id: forced.snapshot.unwrap(), tree: forced.tree };
        let again = ours(&vault, &password, &source, Some(parent));
        assert_eq!(
            (again.summary.files_unmodified, again.summary.data_added_packed > 100_000),
            (forced.summary.files_new, false)
        );
        restic(&program, &vault, &["check", "--read-data"]);
    }
}
