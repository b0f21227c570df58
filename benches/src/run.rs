//! `kobj run` and `kobj who` against bare fork and exec and against the tools people use instead, alternating.

use crate::figure::{Figure, Options, Report, Samples};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Rounds of `true` on each side.
const ROUNDS: usize = 100;
/// Objects of the job whose end is measured: segments, System V ids (a third each), processes.
const MESS: [usize; 3] = [10_000, 1_000, 200];
/// Descriptors that are open while a file's holder is asked for.
const DESCRIPTORS: usize = 40_000;

/// Makes a mess, writes its ids down, says when it ends (nanoseconds since 1970); `clean` takes all of it away again.
const MESS_SCRIPT: &str = r#"
import ctypes, os, signal, sys, time
what, tag, ids, segments, sysv, processes = sys.argv[1:]
libc = ctypes.CDLL(None)
if what == "clean":
    for line in open(ids):
        kind, number = line.split()
        number = int(number)
        if kind == "pid":
            try: os.kill(number, signal.SIGKILL)
            except ProcessLookupError: pass
        elif kind == "shm": libc.shmctl(number, 0, None)
        elif kind == "sem": libc.semctl(number, 0, 0)
        else: libc.msgctl(number, 0, None)
    for name in os.listdir("/dev/shm"):
        if name.startswith(tag): os.unlink("/dev/shm/" + name)
    sys.exit()
out = open(ids, "w")
for n in range(int(segments)):
    os.close(os.open(f"/dev/shm/{tag}-{n}", os.O_CREAT | os.O_RDWR, 0o600))
for n in range(int(sysv)):
    kind = ("shm", "sem", "msg")[n % 3]
    number = (libc.shmget(0, 4096, 0o600) if kind == "shm" else libc.semget(0, 1, 0o600) if kind == "sem"
              else libc.msgget(0, 0o600))
    print(kind, number, file=out)
out.flush()
for n in range(int(processes)):
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    print("pid", child, file=out, flush=True)
out.close()
with open(ids + ".end", "w") as end: end.write(str(time.time_ns()))
os._exit(0)
"#;

/// Makes and deletes files, or forks; prints when it is done and stays until its input closes.
const LOAD_SCRIPT: &str = r#"
import os, sys, time
what, count, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
began = time.monotonic_ns()
if what == "files":
    path = folder + "/f"
    for n in range(count):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        os.unlink(path)
else:
    for n in range(count):
        child = os.fork()
        if child == 0: os._exit(0)
        os.waitpid(child, 0)
print(time.monotonic_ns() - began, flush=True)
sys.stdin.read()
"#;

/// Opens a file, and many more descriptors in as few children as the limits allow; prints when they are open and stays until its input closes.
const OPEN_SCRIPT: &str = r#"
import os, resource, sys
path, count = sys.argv[1], int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
each = min(count, hard - 100 if hard > 0 else count)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = open(path, "w")
wait, keep = os.pipe()
while count > 0:
    ready, say = os.pipe()
    if os.fork() == 0:
        os.close(keep); os.close(ready); held.close()
        more = [os.open("/dev/null", os.O_RDONLY) for n in range(min(each, count))]
        os.close(say)
        os.read(wait, 1)
        os._exit(0)
    os.close(say)
    os.read(ready, 1)
    count -= each
print("open", flush=True)
sys.stdin.read()
"#;

/// Runs the group `run`.
pub(crate) fn run(options: &Options, report: &mut Report) {
    let Some(bench) = Bench::new() else { return };
    if options.wants("run", "run/true") {
        bench.start_and_end(report);
    }
    if options.wants("run", "run/memory") {
        bench.memory(report);
    }
    if options.wants("run", "run/mess") {
        bench.mess(report, "run/mess-named", &["--report-only"], 300.0, "named in under 300 ms");
        bench.mess(report, "run/mess-scrubbed", &["--scrub"], 1000.0, "scrubbed in under 1 s");
    }
    if options.wants("run", "run/load") {
        let most = options.most.unwrap_or(100_000);
        for (who, bars) in [(Who::Ourselves, [1.7, 1.2]), (Who::Nobody, [1.1, 1.1])] {
            if who == Who::Nobody && !is_root() {
                continue;
            }
            let bars = if is_root() { bars } else { [1.1, 1.1] };
            bench.load(report, who, "files", most, bars[0]);
            bench.load(report, who, "forks", most / 10, bars[1]);
        }
    }
}

/// Runs the group `census`.
pub(crate) fn census(options: &Options, report: &mut Report) {
    let Some(bench) = Bench::new() else { return };
    if options.wants("census", "census/who") {
        bench.who(report);
    }
}

/// The user and group that has nothing.
const NOBODY: u32 = 65_534;

/// Whose job it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Ourselves,
    /// The user nobody, where we are root.
    Nobody,
}

impl Who {
    fn name(self) -> &'static str {
        if self == Self::Nobody { "nobody" } else { "ourselves" }
    }

    fn tail(self) -> &'static str {
        if self == Self::Nobody { "-user" } else { "" }
    }

    fn prefix(self) -> &'static [&'static str] {
        match self {
            Self::Ourselves => &[],
            Self::Nobody => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        }
    }
}

struct Place {
    folder: PathBuf,
    kobj: PathBuf,
}

/// What was measured of one side of a load.
#[derive(Default)]
struct Load {
    time_ms: Samples,
    /// The most memory of the process itself.
    peak_kib: Samples,
    /// By how much the kernel's own memory (`Slab` of /proc/meminfo) grew at most: queued events are there.
    kernel_kib: Samples,
}

impl Load {
    fn once(&mut self, words: &[String]) -> Option<()> {
        let before = slab_kib();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let output = child.stdout.take()?;
        let line = std::thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).map(|_| line)
        });
        let mut most = before;
        while !line.is_finished() {
            most = most.max(slab_kib());
            std::thread::park_timeout(Duration::from_millis(100));
        }
        let line = line.join().ok()?.ok()?;
        self.time_ms.push(line.trim().parse::<f64>().ok()? / 1e6);
        self.peak_kib.push(peak_kib(child.id()));
        self.kernel_kib.push(most - before);
        drop(child.stdin.take());
        child.wait().ok()?.success().then_some(())
    }
}

fn slab_kib() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let slab = text.lines().find_map(|line| line.strip_prefix("Slab:")?.trim().split(' ').next()?.parse().ok());
    slab.unwrap_or(f64::NAN)
}

struct Bench {
    kobj: PathBuf,
    folder: PathBuf,
}

impl Bench {
    /// The release build of kobj (`KOBJ_BIN`, or made here) and a private folder.
    fn new() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let kobj = std::env::var_os("KOBJ_BIN").map_or_else(|| root.join("target/release/kobj"), PathBuf::from);
        if std::env::var_os("KOBJ_BIN").is_none() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.current_dir(&root).args(["build", "--release", "--quiet", "--bin", "kobj"]);
            if !build.status().is_ok_and(|status| status.success()) {
                eprintln!("skipped: run: kobj does not build");
                return None;
            }
        }
        let folder = std::env::temp_dir().join(format!("kobj-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).ok()?;
        Some(Self { kobj, folder })
    }

    fn kobj(&self, words: &[&str]) -> Vec<String> {
        [self.kobj.display().to_string()].into_iter().chain(words.iter().map(ToString::to_string)).collect()
    }

    fn start_and_end(&self, report: &mut Report) {
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<String>>();
        let mut sides = vec![
            ("kobj", self.kobj(&["run", "--", "/bin/true"])),
            ("bare", list(&["/bin/true"])),
            ("timeout", list(&["timeout", "10", "/bin/true"])),
            ("unshare", list(&["unshare", "--fork", "--pid", "/bin/true"])),
            ("bwrap", list(&["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "/bin/true"])),
            ("systemd-run", list(&["systemd-run", "--quiet", "--scope", "/bin/true"])),
        ];
        sides.retain(|(name, words)| {
            let runs = once(words).is_some();
            if !runs {
                eprintln!("skipped: run/true against {name}: it does not run here");
            }
            runs
        });
        let mut samples: Vec<Samples> = sides.iter().map(|_| Samples::default()).collect();
        for _ in 0..ROUNDS {
            for ((_, words), samples) in sides.iter().zip(&mut samples) {
                samples.push(once(words).unwrap_or(f64::NAN));
            }
        }
        let median = |name: &str| sides.iter().position(|side| side.0 == name).map(|at| samples[at].median());
        let (Some(ours), Some(bare)) = (median("kobj"), median("bare")) else { return };
        let layers = self.layers();
        eprintln!("layers: {layers}");
        let whole = !is_root() || ["connector", "fanotify"].iter().all(|layer| layers.contains(layer));
        let holds = whole && ours - bare <= 2.5 * bare && median("bwrap").is_none_or(|bwrap| ours < bwrap);
        let mut all = sides.iter().map(|side| side.0).zip(samples);
        let Some((_, ours)) = all.next() else { return };
        report.print(&Figure {
            name: "run/true",
            group: "run",
            unit: "us",
            ours,
            rivals: all.collect(),
            bar: Some(("over bare at most 2.5 times bare, faster than bwrap, all layers on", holds)),
        });
    }

    /// The layers that `-v` names.
    fn layers(&self) -> String {
        let done = Command::new(&self.kobj).args(["run", "-v", "--", "/bin/true"]).output();
        let text = done.map(|done| String::from_utf8_lossy(&done.stderr).into_owned()).unwrap_or_default();
        text.lines().find_map(|line| line.split_once("layers ")).map_or_else(String::new, |(_, list)| list.into())
    }

    fn memory(&self, report: &mut Report) {
        let mut ours = Samples::default();
        for _ in 0..5 {
            let words = self.kobj(&["run", "--", "/bin/sh", "-c", "echo up; read end"]);
            let Some((mut child, _)) = started(&words) else { return };
            ours.push(peak_kib(child.id()));
            drop(child.stdin.take());
            let _ = child.wait();
        }
        let holds = ours.median() < 8.0 * 1024.0;
        report.print(&Figure {
            name: "run/memory",
            group: "run",
            unit: "KiB",
            ours,
            rivals: Vec::new(),
            bar: Some(("peak under 8 MiB", holds)),
        });
    }

    fn mess(&self, report: &mut Report, name: &str, flags: &[&str], bar_ms: f64, bar: &str) {
        let mut ours = Samples::default();
        let tag = format!("kobj-bench-{}", std::process::id());
        let ids = self.folder.join("ids").display().to_string();
        let counts = MESS.map(|count| count.to_string());
        let tail = [tag.as_str(), &ids, &counts[0], &counts[1], &counts[2]];
        for _ in 0..3 {
            let script = [&["/usr/bin/python3", "-c", MESS_SCRIPT, "make"], tail.as_slice()].concat();
            let words = self.kobj(&[&["run", "--quiet"], flags, &["--"], script.as_slice()].concat());
            let _ = Command::new(&words[0]).args(&words[1..]).status();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let end = fs::read_to_string(format!("{ids}.end")).unwrap_or_default();
            let end = Duration::from_nanos(end.parse().unwrap_or_default());
            ours.push((now.saturating_sub(end)).as_secs_f64() * 1e3);
            let _ = Command::new("/usr/bin/python3").args(["-c", MESS_SCRIPT, "clean"]).args(tail).status();
        }
        let holds = ours.median() < bar_ms;
        report.print(&Figure { name, group: "run", unit: "ms", ours, rivals: Vec::new(), bar: Some((bar, holds)) });
    }

    /// A job that makes and deletes `count` files, or forks so often: its wall time with kobj and without, kobj's memory
    /// and what the kernel's own grew by meanwhile, and whether the report says that something was lost.
    fn load(&self, report: &mut Report, who: Who, what: &str, count: usize, most: f64) {
        let Some(place) = self.place(who) else { return };
        let (mut ours, mut bare) = (Load::default(), Load::default());
        let (count, folder) = (count.to_string(), place.folder.display().to_string());
        let json = place.folder.join("report.json");
        let script = ["/usr/bin/python3", "-c", LOAD_SCRIPT, what, count.as_str(), folder.as_str()];
        let prefix = who.prefix();
        let words = |kobj: &[&str]| -> Vec<String> {
            prefix.iter().chain(kobj).chain(&script).map(ToString::to_string).collect()
        };
        let plain = words(&[]);
        let (kobj, json_name) = (place.kobj.display().to_string(), json.display().to_string());
        let under = words(&[&kobj, "run", "--quiet", "--report", &json_name, "--"]);
        let mut whole = true;
        for _ in 0..3 {
            for (words, load) in [(&plain, &mut bare), (&under, &mut ours)] {
                let Some(()) = load.once(words) else {
                    eprintln!("skipped: run/load as {}: {} does not run", who.name(), words[0]);
                    return;
                };
            }
            whole &= fs::read_to_string(&json).is_ok_and(|text| text.contains("\"complete\": true"));
        }
        let name = |tail: &str| format!("run/load-{what}{}{tail}", who.tail());
        let holds = whole && ours.time_ms.median() <= most * bare.time_ms.median();
        let bar = format!("at most {most} times the time without kobj, nothing lost");
        let grown = ours.kernel_kib.median() - bare.kernel_kib.median();
        let fits = ours.peak_kib.median() + grown.max(0.0) < 64.0 * 1024.0;
        report.print(&Figure {
            name: &name(""),
            group: "run",
            unit: "ms",
            ours: ours.time_ms,
            rivals: vec![("bare", bare.time_ms)],
            bar: Some((&bar, holds)),
        });
        report.print(&Figure {
            name: &name("-memory"),
            group: "run",
            unit: "KiB",
            ours: ours.peak_kib,
            rivals: Vec::new(),
            bar: Some(("peak under 64 MiB, what the kernel holds more than without kobj included", fits)),
        });
        report.print(&Figure {
            name: &name("-kernel"),
            group: "run",
            unit: "KiB",
            ours: ours.kernel_kib,
            rivals: vec![("bare", bare.kernel_kib)],
            bar: None,
        });
    }

    /// Where somebody's job works, with a kobj that he may read.
    fn place(&self, who: Who) -> Option<Place> {
        let folder = self.folder.join(who.name());
        fs::create_dir_all(&folder).ok()?;
        let kobj = folder.join("kobj");
        fs::copy(&self.kobj, &kobj).ok()?;
        if who == Who::Nobody {
            std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).ok()?;
        }
        Some(Place { folder, kobj })
    }

    fn who(&self, report: &mut Report) {
        let path = self.folder.join("held").display().to_string();
        let count = DESCRIPTORS.to_string();
        let words = ["/usr/bin/python3", "-c", OPEN_SCRIPT, &path, &count].map(String::from);
        let Some((mut child, _)) = started(&words).filter(|(_, line)| line == "open\n") else {
            eprintln!("skipped: census/who: the holder cannot open {DESCRIPTORS} descriptors");
            return;
        };
        let filter = format!("NAME == \"{path}\"");
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<String>>();
        let mut sides = vec![
            ("kobj", self.kobj(&["who", &path])),
            ("lsof", list(&["lsof", "-w", &path])),
            ("lsfd", list(&["lsfd", "-Q", &filter])),
        ];
        sides.retain(|(name, words)| {
            let runs = once(words).is_some();
            if !runs {
                eprintln!("skipped: census/who against {name}: {} fails here", words[0]);
            }
            runs
        });
        let mut samples: Vec<Samples> = sides.iter().map(|_| Samples::default()).collect();
        for _ in 0..5 {
            for ((_, words), samples) in sides.iter().zip(&mut samples) {
                samples.push(once(words).unwrap_or(f64::NAN) / 1e3);
            }
        }
        drop(child.stdin.take());
        let _ = child.wait();
        let mut all = sides.iter().map(|side| side.0).zip(samples);
        let Some((_, ours)) = all.next().filter(|(name, _)| *name == "kobj") else { return };
        let rivals: Vec<(&str, Samples)> = all.collect();
        let holds = rivals.iter().all(|(_, rival)| ours.median() < rival.median());
        let bar = Some(("faster than lsof and lsfd", holds));
        report.print(&Figure { name: "census/who", group: "census", unit: "ms", ours, rivals, bar });
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|text| text.contains("\nUid:\t0\t"))
}

/// One start and end, in microseconds; `None` if it cannot be started or fails.
fn once(words: &[String]) -> Option<f64> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().ok()?;
    let elapsed = began.elapsed();
    status.success().then_some(elapsed.as_secs_f64() * 1e6)
}

/// A started program and the first line that it prints.
fn started(words: &[String]) -> Option<(Child, String)> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    Some((child, line))
}

/// The most memory that a living process has had, in KiB.
fn peak_kib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse().ok());
    peak.unwrap_or(f64::NAN)
}
