//! What a job is meant to leave is neither touched nor news, with `--scrub=all` too; what it is not, goes.

use kobj_e2e::mode::Mode;
use kobj_e2e::place::{Place, Room, one_room};
use kobj_e2e::program::{self, Setting};
use kobj_e2e::report::Report;
use kobj_e2e::running::{End, Ended, Running, Spec};
use kobj_e2e::{installed, skip};
use std::fs;
use std::path::{Path, PathBuf};

/// A job in some working folder with some environment; what it makes in /tmp carries the tag and goes in the end.
struct Job {
    _place: Place,
    room: Room,
    kobj: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl Job {
    fn new() -> Self {
        let (place, room, kobj) = one_room(0);
        let folder = PathBuf::from("/");
        // As most people have it: no TMPDIR, so that /tmp itself is the temporary folder.
        let environment = vec![("TMPDIR".into(), "/tmp".into()), ("W".into(), room.tag.clone())];
        Self { _place: place, room, kobj, folder, environment }
    }

    /// A path in /tmp that carries the tag. Scripts spell it `/tmp/$W-END`: what is only spelled in a script is not named.
    fn tmp(&self, end: &str) -> PathBuf {
        PathBuf::from(format!("/tmp/{}-{end}", self.room.tag))
    }

    fn at(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn start(&self, argv: &[&str], end: End) -> Running {
        let report = self.room.desk.join("report.json").display().to_string();
        let folder = self.folder.display().to_string();
        let mut words = ["/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", &folder].map(String::from).to_vec();
        words.push(self.kobj.display().to_string());
        words.extend(["run", "--scrub=all", "-v", "--report", &report, "--"].map(String::from));
        words.extend(argv.iter().map(ToString::to_string));
        let spec = Spec { argv: Vec::new(), environment: self.environment.clone(), end, ..Spec::default() };
        Running::spawn(&self.room, &spec, &words, 0, true)
    }

    fn run(&self, argv: &[&str]) -> Ended {
        self.start(argv, End::Input).wait_report()
    }

    fn shell(&self, script: &str) -> Ended {
        let ended = self.run(&["/bin/sh", "-c", script]);
        assert!(ended.status.success(), "{}", ended.output);
        ended
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if entry.file_name().to_string_lossy().starts_with(&format!("{}-", self.room.tag)) {
                drop(if is_folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) });
            }
        }
    }
}

/// `KIND NAME ACTION` of all that the report names, in order.
fn rows(report: &Report) -> Vec<String> {
    let rows = report.stragglers.iter().filter(|item| item.kind != "process");
    let mut rows: Vec<String> = rows.map(|item| format!("{} {} {}", item.kind, item.name, item.action)).collect();
    rows.sort();
    rows
}

/// Exactly these files went, and they are gone.
#[track_caller]
fn scrubbed(ended: &Ended, paths: &[PathBuf]) {
    let mut wanted: Vec<String> =
        paths.iter().map(|path| format!("temporary-file {} scrubbed", path.display())).collect();
    wanted.sort();
    assert_eq!(rows(&ended.report), wanted, "{}", ended.output);
    assert!(paths.iter().all(|path| !path.exists()), "{}", ended.output);
}

#[track_caller]
fn kept(paths: &[PathBuf]) {
    for path in paths {
        assert!(path.exists(), "{} is output and gone", path.display());
    }
}

#[test]
fn a_work_tree_in_tmp_is_output() {
    let job = Job::new();
    let (tree, scratch) = (job.tmp("tree"), job.tmp("scratch"));
    fs::create_dir(&tree).expect("made");
    let job = job.at(&tree);
    let mut script = "mkdir build && echo x >build/a.o && echo y >result && : >/tmp/$W-scratch".to_owned();
    if installed("git") {
        // A checkout is output even where nothing names it.
        script.push_str(" && git init -q /tmp/$W-checkout");
    } else {
        script.push_str(" && mkdir -p /tmp/$W-checkout/.git");
    }
    let ended = job.shell(&script);
    scrubbed(&ended, &[scratch]);
    kept(&[tree.join("build/a.o"), tree.join("result"), job.tmp("checkout").join(".git")]);
}

#[test]
fn what_a_compiler_is_told_to_write_is_output() {
    if !installed("gcc") {
        return skip("what_a_compiler_is_told_to_write_is_output", "gcc is not installed");
    }
    let job = Job::new();
    let source = job.room.desk.join("a.c");
    fs::write(&source, "int main(void) { return 0; }\n").expect("written");
    let source = source.display().to_string();
    let program = job.tmp("x");
    let ended = job.run(&["gcc", "-o", &program.display().to_string(), &source]);
    assert!(ended.status.success(), "{}", ended.output);
    assert_eq!(rows(&ended.report), Vec::<String>::new(), "{}", ended.output);
    kept(std::slice::from_ref(&program));
    fs::remove_file(&program).expect("removed");
    // Joined to the flag, and relative to a working folder that counts for nothing by itself.
    let joined = format!("-o{}", program.display());
    assert!(job.run(&["gcc", &joined, &source]).status.success());
    kept(std::slice::from_ref(&program));
    let job = job.at("/tmp");
    let relative = format!("{}-y", job.room.tag);
    assert!(job.run(&["gcc", "-o", &relative, &source]).status.success());
    kept(&[job.tmp("y")]);
}

/// Neither "/" nor a temporary folder makes what lies below it output, whatever it is to the command.
#[test]
fn the_root_and_the_temporary_folders_make_nothing_output() {
    for (folder, home) in [("/", None), ("/tmp", None), ("/", Some("/")), ("/", Some("/tmp")), ("/var", None)] {
        let mut job = Job::new().at(folder);
        if let Some(home) = home {
            job = job.with("HOME", home);
        }
        let ended = job.shell(": >/tmp/$W-a");
        scrubbed(&ended, &[job.tmp("a")]);
    }
    // One below them does.
    let job = Job::new();
    let home = job.tmp("home");
    fs::create_dir(&home).expect("made");
    let job = job.with("HOME", &home.display().to_string());
    let ended = job.shell("mkdir ~/.cache && : >~/.cache/x && : >/tmp/$W-a");
    scrubbed(&ended, &[job.tmp("a")]);
    kept(&[home.join(".cache/x")]);
}

#[test]
fn tmpdir_is_a_temporary_folder_wherever_it_lies() {
    let job = Job::new();
    let scratch = job.room.home.join("scratch");
    fs::create_dir(&scratch).expect("made");
    let job = job.with("TMPDIR", &scratch.display().to_string());
    let ended = job.shell("mktemp >/dev/null && d=$(mktemp -d) && : >\"$d/in\" && : >/tmp/$W-a && : >~/result");
    assert_eq!(fs::read_dir(&scratch).expect("there").count(), 0, "{}", ended.output);
    kept(&[job.room.home.join("result"), scratch]);
    let kinds: Vec<&str> = ended.report.stragglers.iter().map(|item| item.kind.as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "temporary-file").count(), 2, "{}", ended.output);
    assert_eq!(kinds.iter().filter(|kind| **kind == "temporary-folder").count(), 1, "{}", ended.output);
    assert!(!job.tmp("a").exists(), "/tmp stays one beside it");
}

/// What was there before the job is not the job's, and what it puts there is what it was meant to.
#[test]
fn a_folder_that_was_there_before_makes_what_is_put_into_it_output() {
    let job = Job::new();
    let before = job.tmp("before");
    fs::create_dir(&before).expect("made");
    let ended = job.shell("mkdir /tmp/$W-before/new && : >/tmp/$W-before/new/x && : >/tmp/$W-a");
    scrubbed(&ended, &[job.tmp("a")]);
    kept(&[before.join("new/x")]);
}

#[test]
fn a_database_file_stays_with_what_stands_beside_it() {
    let job = Job::new();
    let script = "import os, sqlite3, sys\n\
                  path = '/tmp/%s-' % os.environ['W'] + 'data'\n\
                  it = sqlite3.connect(path)\n\
                  it.execute('pragma journal_mode=wal')\n\
                  it.execute('create table t (x)')\n\
                  it.commit()\n\
                  open('/tmp/%s-' % os.environ['W'] + 'a', 'w')\n\
                  os._exit(0)\n";
    let ended = job.run(&["/usr/bin/python3", "-c", script]);
    assert!(ended.status.success(), "{}", ended.output);
    scrubbed(&ended, &[job.tmp("a")]);
    kept(&[job.tmp("data"), job.tmp("data-wal"), job.tmp("data-shm")]);
}

fn postgresql() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|entry| entry.path().join("bin")).filter(|folder| folder.join("postgres").exists()).max()
}

/// `initdb` into PGDATA in /tmp, then the server with its socket in /tmp itself, killed: the database stays, byte for
/// byte a database; socket, lock and pid files go, though /tmp is named on the command line.
#[test]
fn a_database_in_tmp_stays_and_its_socket_in_tmp_goes() {
    let test = "a_database_in_tmp_stays_and_its_socket_in_tmp_goes";
    let Some(programs) = postgresql() else { return skip(test, "postgresql is not installed") };
    if !installed("setpriv") {
        return skip(test, "setpriv is not installed");
    }
    let job = Job::new();
    let data = job.tmp("data");
    let job = job.with("PGDATA", &data.display().to_string());
    let user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
    let initdb = programs.join("initdb").display().to_string();
    let ended = job.run(&[&user[..], &[&initdb, "--no-sync", "--auth=trust", "--username=test"]].concat());
    assert!(ended.status.success(), "{}", ended.output);
    assert_eq!(rows(&ended.report), Vec::<String>::new(), "{}", ended.output);
    kept(&[data.join("PG_VERSION"), data.join("base")]);

    let port = (20_000 + std::process::id() % 40_000).to_string();
    let server = programs.join("postgres").display().to_string();
    let flags = ["-k", "/tmp", "-p", &port, "-c", "listen_addresses=", "-c", "fsync=off"];
    let mut running = job.start(&[&user[..], &[&server], &flags[..]].concat(), End::Terminate);
    running.ready("ready to accept connections").unwrap_or_else(|output| panic!("{output}"));
    let socket = PathBuf::from(format!("/tmp/.s.PGSQL.{port}"));
    kept(&[socket.clone(), data.join("postmaster.pid")]);
    running.kill_tree();
    let ended = running.wait_report();
    let went = |name: &Path| {
        let item = ended.report.stragglers.iter().find(|item| Path::new(&item.name) == name);
        item.is_some_and(|item| item.action == "scrubbed") && !name.exists()
    };
    for path in [socket, PathBuf::from(format!("/tmp/.s.PGSQL.{port}.lock")), data.join("postmaster.pid")] {
        assert!(went(&path), "{}: {}", path.display(), ended.output);
    }
    kept(&[data.join("PG_VERSION"), data.join("base"), data.join("pg_wal")]);
}

/// The second run finds the folder of the first, or no trace of it; either way it starts, and leaves the same.
#[test]
fn servers_with_a_fixed_name_in_tmp_run_twice() {
    for name in ["xvfb", "tmux"] {
        let program = program::find(name).unwrap_or_else(|| panic!("no program {name}"));
        if let Err(missing) = program::available(&program) {
            skip(&format!("servers_with_a_fixed_name_in_tmp_run_twice {name}"), &missing);
            continue;
        }
        let (place, room, kobj) = one_room(0);
        let setting = Setting { mode: Mode::Root, place: &place, room: &room, number: 0 };
        let spec = (program.spec)(&setting).unwrap_or_else(|missing| panic!("{missing}"));
        let mut reports = Vec::new();
        for flags in [&["--scrub=all"][..], &["--scrub=all"], &["--scrub"], &["--scrub=all"]] {
            let mut running = Running::start(Mode::Root, &room, &spec, Some((&kobj, flags)));
            running.ready(&spec.ready).unwrap_or_else(|output| panic!("{name}: {output}"));
            running.kill_tree();
            reports.push(running.wait_report());
        }
        let [first, second, runtime, last] = &reports[..] else { panic!("four runs") };
        assert!(!rows(&first.report).is_empty(), "{name}: {}", first.output);
        assert!(rows(&first.report).iter().all(|row| row.ends_with(" scrubbed")), "{name}: {}", first.output);
        assert_eq!(rows(&first.report), rows(&second.report), "{name}");
        // What the run before left (a lock file, a folder) hinders no later one.
        assert!(rows(&runtime.report).iter().any(|row| row.ends_with(" reported")), "{name}: {}", runtime.output);
        let sockets = |ended: &Ended| -> Vec<String> {
            rows(&ended.report).into_iter().filter(|row| row.starts_with("unix-socket ")).collect()
        };
        assert!(sockets(last).iter().all(|row| row.ends_with(" scrubbed")), "{name}: {}", last.output);
    }
}
