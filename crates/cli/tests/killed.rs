//! kobj is killed at random instants of a run: whatever was written down is enough to clean up, and no more than that
//! is touched.

use kobj_abi::{Layer, Strength};
use kobj_host::identity;
use kobj_host::record::{Contents, RuntimeFolder, State, list};
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 50;
/// In the environment of every process that a round starts.
const MARK: &str = "KOBJ_KILLED_TEST";
const SHM: &str = "/dev/shm";

/// Makes and deletes objects, a byte on its output for each step. At a word on its input it makes some that nobody
/// watches any more, says "late", and waits for its end. With a number of steps it ends after them.
const WORKER: &str = r#"
import ctypes, os, random, select, signal, sys
prefix, key, seed, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
libc.sem_open.restype = ctypes.c_void_p
libc.sem_close.argtypes = [ctypes.c_void_p]
made, ids, leftovers, number = [], [], 0, 0
def file(name):
    if rng.random() < 0.5:
        os.close(os.open(f'/dev/shm/{name}', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        return f'/dev/shm/{name}'
    semaphore = libc.sem_open(f'/{name}'.encode(), os.O_CREAT | os.O_EXCL, 0o600, 0)
    if not semaphore: raise OSError(ctypes.get_errno(), name)
    libc.sem_close(semaphore)
    return f'/dev/shm/sem.{name}'
def sysv(key):
    found = libc.shmget(key, 4096, 0o3600)
    if found < 0: raise OSError(ctypes.get_errno(), 'shmget')
    return found
def leftover(name):
    if os.fork() == 0:
        os.setsid()
        held = os.open(f'/dev/shm/{name}', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        for number in (0, 1, 2): os.close(number)
        while True: signal.pause()
def short(name):
    child = os.fork()
    if child == 0:
        file(name)
        os._exit(0)
    os.waitpid(child, 0)
def step():
    global number, leftovers
    number += 1
    name, choice = f'{prefix}-{number}', rng.random()
    if choice < 0.40: made.append(file(name))
    elif choice < 0.75 and made: os.unlink(made.pop(rng.randrange(len(made))))
    elif choice < 0.82: ids.append(sysv(key + number % 0x7000))
    elif choice < 0.90 and ids: libc.shmctl(ids.pop(rng.randrange(len(ids))), 0, None)
    elif choice < 0.92 and leftovers < 4:
        leftovers += 1
        leftover(name + '-left')
    elif choice < 0.94 and number < 3000: short(name + '-short')
def late():
    for n in range(3):
        file(f'{prefix}-late-{n}')
        sysv(key + 0x7000 + n)
    short(f'{prefix}-late-short')
while steps == 0 or number < steps:
    if select.select([0], [], [], 0)[0]:
        os.read(0, 16)
        late()
        os.write(1, b'late\n')
        sys.stdin.read()
        break
    step()
    os.write(1, b'.')
"#;

/// Makes and deletes like objects beside the job, some at each word; says at the end whether what it kept is there.
const BYSTANDER: &str = r#"
import ctypes, os, random, sys
prefix, key, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
libc.sem_open.restype = ctypes.c_void_p
libc.sem_close.argtypes = [ctypes.c_void_p]
files, ids, number = {}, [], 0
def whole():
    for path, inode in files.items():
        if os.stat(path).st_ino != inode: return f'{path} is another'
    space = ctypes.create_string_buffer(512)
    for found in ids:
        if libc.shmctl(found, 2, space) != 0: return f'sysv segment {found} is gone'
    return 'whole'
print('up', flush=True)
for line in sys.stdin:
    if line == 'check\n':
        try: print(whole(), flush=True)
        except OSError as error: print(error, flush=True)
        continue
    for _ in range(12):
        number += 1
        choice = rng.random()
        if choice < 0.3:
            path = f'/dev/shm/{prefix}-{number}'
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            files[path] = os.stat(path).st_ino
        elif choice < 0.5:
            libc.sem_close(libc.sem_open(f'/{prefix}-{number}'.encode(), os.O_CREAT | os.O_EXCL, 0o600, 0))
            path = f'/dev/shm/sem.{prefix}-{number}'
            files[path] = os.stat(path).st_ino
        elif choice < 0.6 and number < 0x7000: ids.append(libc.shmget(key + number, 4096, 0o3600))
        elif choice < 0.7 and ids: libc.shmctl(ids.pop(0), 0, None)
        elif files:
            path = rng.choice(list(files))
            del files[path]
            os.unlink(path)
"#;

/// The same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// Lets a random part of `limit` pass without giving the processor away.
    fn spin(&mut self, limit: Duration) {
        let (begun, limit) = (Instant::now(), Duration::from_nanos(self.below(limit.as_nanos() as u64)));
        while begun.elapsed() < limit {
            std::hint::spin_loop();
        }
    }
}

/// What belongs to this test alone; all of it is gone when this value is.
struct Place {
    runtime: PathBuf,
    prefix: String,
    mark: String,
    first_era: u32,
    first_key: u32,
}

impl Place {
    fn new() -> Self {
        let unique = std::process::id();
        let runtime = std::env::temp_dir().join(format!("kobj-killed-{unique}"));
        drop(RuntimeFolder::open_at(&runtime).unwrap());
        let folder = RuntimeFolder::open_at(&runtime.join("kobj")).unwrap();
        // Eras of its own: control groups are named by them. The folder's access time is the last era.
        let first_era = 3_000_000_000 + unique % 100_000 * 1_000;
        let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let access = Timespec { tv_sec: i64::from(first_era), tv_nsec: 0 };
        let opened = File::open(folder.path()).unwrap();
        rustix::fs::futimens(&opened, &Timestamps { last_access: access, last_modification: keep }).unwrap();
        let first_key = 0x4000_0000 | ((unique % 0x1000) << 16);
        let (prefix, mark) = (format!("kobj-killed-{unique}"), format!("{MARK}={unique}"));
        Self { runtime, prefix, mark, first_era, first_key }
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let (name, value) = self.mark.split_once('=').unwrap();
        command.env("XDG_RUNTIME_DIR", &self.runtime).env("XDG_STATE_HOME", self.runtime.join("state"));
        command.env("XDG_CONFIG_HOME", "/nonexistent").env_remove("KOBJ_JOB").env(name, value);
        command
    }

    /// The living that a round started: a zombie has no environment.
    fn processes(&self) -> Vec<u32> {
        let pids =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let marked = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|line| line == self.mark.as_bytes())
        };
        pids.filter(marked).collect()
    }

    /// Files below /dev/shm whose names begin like that, semaphores included.
    fn files(&self, prefix: &str) -> Vec<PathBuf> {
        let begins = |name: &str| name.strip_prefix("sem.").unwrap_or(name).starts_with(prefix);
        let entries = std::fs::read_dir(SHM).unwrap().filter_map(Result::ok);
        entries.filter(|entry| entry.file_name().to_str().is_some_and(begins)).map(|entry| entry.path()).collect()
    }

    /// System V segments with keys from `first`: key to id and the second of the last change.
    fn segments(&self, first: u32) -> HashMap<u32, (u32, i64)> {
        let text = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let segment = |line: &str| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let key = words.first()?.parse::<i32>().ok()? as u32;
            let own = (first..first + 0x8000).contains(&key);
            own.then_some((key, (words[1].parse().ok()?, words[13].parse().ok()?)))
        };
        text.lines().skip(1).filter_map(segment).collect()
    }

    fn groups(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
        let mounted = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|w| w[2] == "cgroup2");
        let Some(folder) = mounted.map(|words| Path::new(words[1]).join(own)) else { return Vec::new() };
        let names =
            std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok());
        let is_own = |name: &String| {
            let era = name.strip_prefix("kobj-").and_then(|rest| rest.get(..8));
            let era = era.and_then(|era| u32::from_str_radix(era, 16).ok());
            era.is_some_and(|era| (self.first_era..self.first_era + 1_000).contains(&era))
        };
        names.filter(is_own).collect()
    }

    fn remove_objects(&self, prefix: &str, first_key: u32) {
        for path in self.files(prefix) {
            _ = std::fs::remove_file(path);
        }
        for (id, _) in self.segments(first_key).into_values() {
            _ = Command::new("ipcrm").args(["-m", &id.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for pid in self.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        self.remove_objects(&self.prefix, self.first_key);
        self.remove_objects(&self.prefix, self.first_key + 0x8000);
        _ = std::fs::remove_dir_all(&self.runtime);
    }
}

struct Bystander {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Bystander {
    fn new(place: &Place, seed: u64) -> Self {
        let mut command = Command::new("python3");
        let key = (place.first_key + 0x8000).to_string();
        command.args(["-c", BYSTANDER, &format!("{}-by", place.prefix), &key, &seed.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut own = Self { child, output };
        assert_eq!(own.line(), "up");
        own
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn say(&mut self, word: &str) {
        self.child.stdin.as_mut().unwrap().write_all(format!("{word}\n").as_bytes()).unwrap();
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// When kobj is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// While it starts.
    Starting,
    /// While the command works.
    Working,
    /// After the command ended.
    Ending,
}

/// One run that was killed.
struct Killed {
    pid: u32,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

fn start_and_kill(
    place: &Place,
    instant: Moment,
    name: &str,
    random: &mut Random,
    bystander: &mut Bystander,
) -> Killed {
    let steps = if instant == Moment::Ending { 20 + random.below(400) } else { 0 };
    let mut command = place.command(env!("CARGO_BIN_EXE_kobj"));
    command.args(["run", "--scrub", "--quiet", "--name", name, "--", "python3", "-c", WORKER, name]);
    command.args([place.first_key.to_string(), random.below(1 << 30).to_string(), steps.to_string()]);
    bystander.say("go");
    let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (pid, input, mut output) = (run.id(), run.stdin.take(), run.stdout.take().unwrap());
    match instant {
        Moment::Starting => random.spin(Duration::from_millis(25)),
        Moment::Working => {
            let mut progress = vec![0; 1 + random.below(1500) as usize];
            output.read_exact(&mut progress).unwrap();
            random.spin(Duration::from_millis(2));
        }
        Moment::Ending => {
            let mut progress = Vec::new();
            output.read_to_end(&mut progress).unwrap();
            random.spin(Duration::from_millis(30));
        }
    }
    run.kill().unwrap();
    run.wait().unwrap();
    Killed { pid, input, output }
}

/// The command goes on: whether it answered a word after its kobj was dead.
fn runs_on(killed: &mut Killed) -> bool {
    _ = killed.input.as_mut().unwrap().write_all(b"go\n");
    let mut heard = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match killed.output.read(&mut chunk).unwrap() {
            0 => return false,
            count => heard.extend_from_slice(&chunk[..count]),
        }
        if heard.ends_with(b"late\n") {
            return true;
        }
    }
}

fn record_of(place: &Place) -> Option<Contents> {
    let mut found = list(&RuntimeFolder::open_at(&place.runtime.join("kobj")).unwrap()).unwrap().found;
    assert!(found.len() <= 1, "{found:?}");
    let found = found.pop()?;
    assert_eq!(found.state, State::Dead, "{found:?}");
    Some(found.contents.unwrap_or_else(|why| panic!("the record {why}")))
}

/// What the scrub has to leave, and what it has to take away, by the record.
#[derive(Default)]
struct Expected {
    gone: Vec<PathBuf>,
    stays: Vec<PathBuf>,
    gone_keys: Vec<u32>,
    stays_keys: Vec<u32>,
}

fn expect(place: &Place, name: &str, contents: Option<&Contents>) -> Expected {
    let mut expected = Expected::default();
    for path in place.files(&format!("{name}-")) {
        let (_, identity) = identity::of(rustix::fs::CWD, path.as_os_str()).unwrap();
        let made = contents.and_then(|contents| contents.of(&identity));
        let proved = made.as_ref().is_some_and(|made| made.strength == Strength::Proof);
        if proved { &mut expected.gone } else { &mut expected.stays }.push(path);
    }
    for (key, (_, changed)) in place.segments(place.first_key) {
        // The kernel keeps whole seconds.
        let early = contents.is_some_and(|contents| changed < contents.last_event.0.div_euclid(1_000_000));
        let is_late = key >= place.first_key + 0x7000;
        assert!(!(early && is_late), "a late segment is older than the last event");
        if !early {
            expected.stays_keys.push(key);
        } else if contents.is_some_and(|contents| !contents.lost) {
            expected.gone_keys.push(key);
        }
    }
    let late = expected.gone.iter().find(|path| path.to_string_lossy().contains("-late-"));
    assert_eq!(late, None, "made after the last event");
    expected
}

/// Nothing of kobj's own, and no process, is left.
fn assert_clean(place: &Place, pids: &[u32], what: &str) {
    assert_eq!(place.processes(), [0_u32; 0], "{what}: processes stay");
    assert_eq!(place.groups(), [""; 0], "{what}: control groups stay");
    let kept: Vec<_> = std::fs::read_dir(place.runtime.join("kobj")).unwrap().collect();
    assert!(kept.is_empty(), "{what}: {kept:?}");
    for folder in [SHM, "/tmp"] {
        let names = std::fs::read_dir(folder).unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_room = |name: &String| pids.iter().any(|pid| name.starts_with(&format!(".kobj-{pid}-")));
        assert_eq!(names.filter(is_room).collect::<Vec<_>>(), [""; 0], "{what}: a private folder stays");
    }
}

fn scrub(place: &Place, name: &str) -> (u32, Output) {
    let mut command = place.command(env!("CARGO_BIN_EXE_kobj"));
    // Not --dead-jobs: that takes in the dead jobs of tests which run beside, in the folders that all share.
    command.args(["scrub", "--job", name, "-J"]).env_remove(MARK).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    (child.id(), child.wait_with_output().unwrap())
}

/// How often each thing was seen, so that a test which sees nothing fails.
#[derive(Debug, Default)]
struct Seen {
    records: usize,
    went_on: usize,
    scrubbed: usize,
    unproved: usize,
    ended: usize,
}

fn round(place: &Place, instant: Moment, name: &str, random: &mut Random, by: &mut Bystander, seen: &mut Seen) {
    let mut killed = start_and_kill(place, instant, name, random, by);
    let what = format!("{name}, killed while {instant:?}");
    let goes_on = runs_on(&mut killed);
    assert!(goes_on || instant != Moment::Working, "{what}: the command did not go on");
    let contents = record_of(place);
    assert!(contents.is_some() || !goes_on, "{what}: the command runs and there is no record");
    let expected = expect(place, name, contents.as_ref());
    let (pid, output) = scrub(place, name);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some(contents) = &contents {
        assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let job = &report["reports"][0]["job"];
        assert!(job["incomplete_because"].to_string().contains("its kobj was killed"), "{what}: {text}");
        assert!(!text.contains(&format!("{}-by-", place.prefix)), "{what}: names a bystander's object: {text}");
        assert!(!contents.layers.contains(&Layer::Fanotify) || !contents.lost, "{what}: events were lost");
        seen.records += 1;
    } else {
        assert_eq!(output.status.code(), Some(2), "{what}: {output:?}");
    }
    let there = |path: &&PathBuf| path.exists();
    assert_eq!(expected.gone.iter().find(there), None, "{what}: proved and not scrubbed: {text}");
    assert_eq!(expected.stays.iter().find(|path| !path.exists()), None, "{what}: scrubbed without proof: {text}");
    let segments = place.segments(place.first_key);
    let segment_stays = |key: &&u32| segments.contains_key(key);
    assert_eq!(expected.gone_keys.iter().find(segment_stays), None, "{what}: proved and not scrubbed: {text}");
    assert_eq!(expected.stays_keys.iter().find(|key| !segments.contains_key(key)), None, "{what}: {text}");
    assert_clean(place, &[killed.pid, pid], &what);
    by.say("check");
    assert_eq!(by.line(), "whole", "{what}");
    place.remove_objects(&format!("{name}-"), place.first_key);
    seen.went_on += usize::from(goes_on);
    seen.scrubbed += expected.gone.len();
    seen.unproved += expected.stays.len();
    seen.ended += text.matches("\"terminated\"").count();
}

#[test]
fn killed_at_fifty_random_instants_kobj_leaves_what_its_record_cleans_up() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: killed_at_fifty_random_instants: needs root for exact file events");
        return;
    }
    let given = std::env::var("KOBJ_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = given.unwrap_or(since.as_nanos() as u64 >> 8);
    println!("seed: KOBJ_TEST_SEED={seed}");
    let place = Place::new();
    let mut random = Random(seed);
    let mut bystander = Bystander::new(&place, seed);
    let mut seen = Seen::default();
    for number in 0..ROUNDS {
        let instant = match random.below(10) {
            0..2 => Moment::Starting,
            2..4 => Moment::Ending,
            _ => Moment::Working,
        };
        let name = format!("{}-{number}", place.prefix);
        round(&place, instant, &name, &mut random, &mut bystander, &mut seen);
    }
    println!("{seen:?}");
    let enough =
        seen.records > ROUNDS / 2 && seen.went_on > ROUNDS / 3 && seen.scrubbed > 50 && seen.ended > ROUNDS / 2;
    assert!(enough && seen.unproved > ROUNDS, "{seen:?}");
}
