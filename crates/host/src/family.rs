//! The exact family tree of a job, fed by the process connector.
//!
//! A member is the command, and whatever a member forks. The kernel tells of a fork before the new process runs, so that
//! the tree is whole at every moment, unless an event was lost; then everything said by number is a hint.
//!
//! A number names a process only while that process lives. For each number two bits say whether it was ever the job's
//! and ever somebody else's since the watch began; and for a short window, which numbers were somebody else's in it.

use crate::proc::{Life as Folder, Proc};
use kobj_abi::Strength;
use kobj_platform::connector::ProcessEvent;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The kernel's own limit of process ids (`PID_MAX_LIMIT`); a larger number is no process id.
pub const PID_LIMIT: u32 = 1 << 22;
/// The most of a command line that is read to find a script's name, in bytes.
const COMMAND_LINE_BYTES: usize = 4096;
/// How many different command names are kept before those that nobody uses are let go.
const COMMANDS_KEPT: usize = 1024;
/// How far a start time may lie from the fork's event, in nanoseconds, and still be that life's.
const START_SLACK_NS: u64 = 1_000_000_000;

/// A set of process ids that grows with the largest number in it, and knows which of its words changed.
#[derive(Clone, Debug, Default)]
pub struct PidSet {
    words: Vec<u64>,
    changed: Vec<u64>,
}

impl PidSet {
    /// Whether `pid` is in it.
    #[must_use]
    pub fn contains(&self, pid: u32) -> bool {
        self.words.get(pid as usize / 64).is_some_and(|word| word >> (pid % 64) & 1 == 1)
    }

    /// Adds `pid`; numbers beyond [`PID_LIMIT`] are no process ids and are left out.
    pub fn insert(&mut self, pid: u32) {
        if pid >= PID_LIMIT || self.contains(pid) {
            return;
        }
        let word = pid as usize / 64;
        if self.words.len() <= word {
            self.words.resize((word + 1).next_multiple_of(64), 0);
            self.changed.resize(self.words.len() / 64, 0);
        }
        self.words[word] |= 1 << (pid % 64);
        self.changed[word / 64] |= 1 << (word % 64);
    }

    /// The set in that form: bit `pid % 64` of word `pid / 64`.
    #[must_use]
    pub fn from_words(mut words: Vec<u64>) -> Self {
        words.truncate(PID_LIMIT as usize / 64);
        words.resize(words.len().next_multiple_of(64), 0);
        let changed = vec![0; words.len() / 64];
        Self { words, changed }
    }

    /// The words, 64 ids each.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Calls `publish` with each word that changed since the last call, and its place.
    pub fn take_changes(&mut self, mut publish: impl FnMut(usize, u64)) {
        for (block, bits) in self.changed.iter_mut().enumerate() {
            while *bits != 0 {
                let word = block * 64 + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                publish(word, self.words[word]);
            }
        }
    }
}

/// One life of a process id in the job.
#[derive(Clone, Debug)]
pub struct Life {
    /// When it was forked, in nanoseconds of the monotonic clock; 0 until its fork was heard.
    pub started_at_ns: u64,
    /// Who forked it (with `CLONE_PARENT`, that one's parent).
    pub parent: u32,
    /// Its command's name: a script's where an interpreter runs one. Inherited until it runs another program; empty if that
    /// one's name could not be read before it ended.
    pub command: Arc<[u8]>,
    /// When that was asked for last, in nanoseconds of the monotonic clock; 0 if it is inherited.
    command_read_at_ns: u64,
    /// It is the job's command, whose first start of a program may be told after its name was read.
    is_spawned: bool,
    threads: u32,
}

/// Commands that ask a daemon outside of any job to make things: service managers, container engines, schedulers.
const DAEMON_CLIENTS: [&str; 13] = [
    "systemctl",
    "systemd-run",
    "machinectl",
    "busctl",
    "dbus-send",
    "docker",
    "podman-remote",
    "nerdctl",
    "ctr",
    "crictl",
    "at",
    "batch",
    "virsh",
];

/// The most ended processes whose names are kept: a whole wrap of the usual numbers.
const NAMES_KEPT: usize = 1 << 15;

/// A job's processes, living and just ended.
pub struct Family {
    keeper: Option<u32>,
    living: HashMap<u32, Life>,
    ended: HashMap<u32, Life>,
    /// The names of the ended: makers are named long after their end.
    names: HashMap<u32, Arc<[u8]>>,
    daemon_clients: BTreeSet<&'static str>,
    /// The command's number, until its fork is heard: what ends before was another life.
    expected: Option<u32>,
    ours: PidSet,
    foreign: PidSet,
    strangers: HashSet<u32>,
    commands: HashSet<Arc<[u8]>>,
    proc: Option<Proc>,
    started: u64,
    over: u64,
    last_event_ns: u64,
    lost: bool,
}

impl Family {
    /// An empty family. All that `keeper` (kobj itself) forks belongs to it: the command, and what a member forks with
    /// `CLONE_PARENT`. Without a keeper only what [`Family::set_root`] names.
    #[must_use]
    pub fn new(proc: &Path, keeper: Option<u32>) -> Self {
        Self {
            keeper,
            living: HashMap::new(),
            ended: HashMap::new(),
            names: HashMap::new(),
            daemon_clients: BTreeSet::new(),
            expected: None,
            ours: PidSet::default(),
            foreign: PidSet::default(),
            strangers: HashSet::new(),
            commands: HashSet::new(),
            proc: Proc::open(proc).ok(),
            started: 0,
            over: 0,
            last_event_ns: 0,
            lost: false,
        }
    }

    /// Names the job's first process, right after it was started and before its events are read.
    pub fn set_root(&mut self, pid: u32) {
        // With a keeper, events that were read already know it, and perhaps its end.
        if !self.living.contains_key(&pid) && (self.keeper.is_none() || !self.ours.contains(pid)) {
            let command = self.intern(b"");
            self.expected = Some(pid);
            self.begin(
                pid,
                Life {
                    started_at_ns: 0,
                    parent: self.keeper.unwrap_or(0),
                    command,
                    command_read_at_ns: 0,
                    is_spawned: true,
                    threads: 1,
                },
            );
        }
        self.read_command(pid);
    }

    /// Takes one event in. Events must come in the kernel's order.
    pub fn apply(&mut self, event: ProcessEvent) {
        match event {
            ProcessEvent::Fork { parent_tgid, child_pid, child_tgid, at_ns } => {
                self.last_event_ns = self.last_event_ns.max(at_ns);
                if child_pid == child_tgid {
                    self.forked(parent_tgid, child_pid, at_ns);
                } else if let Some(life) = self.living.get_mut(&child_tgid) {
                    life.threads = life.threads.saturating_add(1);
                }
            }
            // A thread that executes takes the leader's number. The other threads end, the leader too, each with an event
            // of its own that may come after this one: they are counted there.
            ProcessEvent::Exec { tgid, at_ns } => self.executed(tgid, at_ns),
            ProcessEvent::Exit { tgid, .. } => self.exited(tgid),
            ProcessEvent::Lost => self.lost = true,
        }
    }

    fn forked(&mut self, parent: u32, pid: u32, at_ns: u64) {
        if self.expected == Some(pid) {
            self.expected = None;
            if let Some(life) = self.living.get_mut(&pid) {
                life.started_at_ns = at_ns;
            }
            return;
        }
        if let Some(stale) = self.living.remove(&pid) {
            // Its end was not heard: an event is missing.
            self.lost = true;
            self.over += 1;
            self.remember(pid, &stale);
            self.ended.insert(pid, stale);
        }
        let inherited = self.living.get(&parent).map(|life| Arc::clone(&life.command));
        if inherited.is_none() && (self.keeper != Some(parent) || pid == parent) {
            self.see_stranger(pid);
            return;
        }
        let command = inherited.unwrap_or_else(|| self.intern(b""));
        self.begin(
            pid,
            Life { started_at_ns: at_ns, parent, command, command_read_at_ns: 0, is_spawned: false, threads: 1 },
        );
    }

    fn exited(&mut self, tgid: u32) {
        if self.expected == Some(tgid) {
            self.see_stranger(tgid);
            return;
        }
        match self.living.get_mut(&tgid) {
            Some(life) if life.threads > 1 => life.threads -= 1,
            Some(_) => {
                self.over += 1;
                if let Some(life) = self.living.remove(&tgid) {
                    self.remember(tgid, &life);
                    self.ended.insert(tgid, life);
                }
            }
            // A further thread of a process whose end was counted would be heard here: no stranger, no harm.
            None if self.ended.contains_key(&tgid) => {}
            None => self.see_stranger(tgid),
        }
    }

    fn begin(&mut self, pid: u32, life: Life) {
        self.ours.insert(pid);
        self.started += 1;
        self.living.insert(pid, life);
    }

    fn see_stranger(&mut self, pid: u32) {
        self.foreign.insert(pid);
        self.strangers.insert(pid);
    }

    /// Forgets the ended and the strangers of the window: every deed of theirs was read and judged.
    pub fn forget_ended(&mut self) {
        self.ended.clear();
        self.strangers.clear();
        if self.ended.capacity() > 4096 || self.strangers.capacity() > 4096 {
            self.ended = HashMap::new();
            self.strangers = HashSet::new();
        }
    }

    /// Whose deed it is, if done by `pid` since the last [`Family::forget_ended`] and all events up to now were applied.
    ///
    /// `None`: not the job's. Proof: in that time the number was the job's alone. Hint: it was others' too.
    #[must_use]
    pub fn judge_recent(&self, pid: u32) -> Option<(Strength, Arc<[u8]>)> {
        let life = self.living.get(&pid).or_else(|| self.ended.get(&pid))?;
        let alone = !self.lost && (!self.foreign.contains(pid) || !self.strangers.contains(&pid));
        Some((if alone { Strength::Proof } else { Strength::Hint }, Arc::clone(&life.command)))
    }

    /// Whose deed it is, if done by `pid` at any time since the watch began (the creator that the kernel keeps with a
    /// System V segment). Proof only if the number was never anybody else's in all that time.
    #[must_use]
    pub fn judge_ever(&self, pid: u32) -> Option<Strength> {
        if !self.ours.contains(pid) {
            return None;
        }
        let alone = !self.lost && !self.foreign.contains(pid);
        Some(if alone { Strength::Proof } else { Strength::Hint })
    }

    /// The living, in no order.
    #[must_use]
    pub fn living(&self) -> Vec<u32> {
        self.living.keys().copied().collect()
    }

    /// What is known of `pid`, if it lives or has just ended.
    #[must_use]
    pub fn life(&self, pid: u32) -> Option<&Life> {
        self.living.get(&pid).or_else(|| self.ended.get(&pid))
    }

    /// The name of the command that `pid` ran last, living or not, as far as it was read and is still known.
    #[must_use]
    pub fn name_of(&self, pid: u32) -> Option<Arc<[u8]>> {
        self.living.get(&pid).map(|life| &life.command).or_else(|| self.names.get(&pid)).map(Arc::clone)
    }

    /// The clients of other daemons that the job ran: what these do on request is no descendant's deed.
    pub fn daemon_clients(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.daemon_clients.iter().copied()
    }

    fn remember(&mut self, pid: u32, life: &Life) {
        if self.names.len() < NAMES_KEPT || self.names.contains_key(&pid) {
            self.names.insert(pid, Arc::clone(&life.command));
        }
    }

    /// How many processes began and ended in the job, each counted by its own event.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.started, self.over)
    }

    /// Whether an event was lost: from then on nothing said by number is a proof.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.lost
    }

    /// The time of the last fork heard, in nanoseconds of the monotonic clock.
    #[must_use]
    pub fn last_event_ns(&self) -> u64 {
        self.last_event_ns
    }

    /// The numbers that were ever the job's, and those that were ever somebody else's.
    pub fn sets(&mut self) -> (&mut PidSet, &mut PidSet) {
        (&mut self.ours, &mut self.foreign)
    }

    fn intern(&mut self, name: &[u8]) -> Arc<[u8]> {
        if let Some(known) = self.commands.get(name) {
            return Arc::clone(known);
        }
        if self.commands.len() >= COMMANDS_KEPT {
            self.commands.retain(|name| Arc::strong_count(name) > 1);
        }
        let name: Arc<[u8]> = name.into();
        self.commands.insert(Arc::clone(&name));
        name
    }

    /// A process runs another program: if that has ended before its name could be read, its name is not known.
    fn executed(&mut self, pid: u32, at_ns: u64) {
        let Some(life) = self.living.get_mut(&pid) else { return };
        // What was read since is the new program's name.
        if life.command_read_at_ns >= at_ns {
            return;
        }
        let has_name = std::mem::take(&mut life.is_spawned) && life.command_read_at_ns > 0;
        if !self.read_command(pid) && !has_name && self.proc.is_some() {
            let unknown = self.intern(b"");
            if let Some(life) = self.living.get_mut(&pid) {
                life.command = unknown;
            }
        }
    }

    /// Whether the name could be read.
    fn read_command(&mut self, pid: u32) -> bool {
        let Some(life) = self.living.get(&pid) else { return false };
        let started_at_ns = life.started_at_ns;
        let asked = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let asked_at_ns = asked.tv_sec.unsigned_abs().saturating_mul(1_000_000_000) + asked.tv_nsec.unsigned_abs();
        let read = self.proc.as_ref().and_then(|proc| command_of(&proc.life(pid).ok()?, started_at_ns));
        let Some(name) = read else { return false };
        if let Some(client) = DAEMON_CLIENTS.iter().find(|client| client.as_bytes() == name) {
            self.daemon_clients.insert(client);
        }
        let name = self.intern(&name);
        if let Some(life) = self.living.get_mut(&pid) {
            life.command = name;
            life.command_read_at_ns = asked_at_ns;
        }
        true
    }
}

/// The command's name in this very life, forked at `at_ns` of the monotonic clock (0: not known).
fn command_of(folder: &Folder, at_ns: u64) -> Option<Vec<u8>> {
    let stat = folder.stat()?;
    if at_ns != 0 && !started_then(stat.started, at_ns) {
        return None;
    }
    let line = if is_interpreter(&stat.command) { folder.read("cmdline", COMMAND_LINE_BYTES).ok() } else { None };
    Some(line.as_deref().and_then(script_of).unwrap_or(stat.command))
}

/// Whether a start in clock ticks since boot fits a fork at `at_ns` of the monotonic clock, which stands in sleep.
fn started_then(started: u64, at_ns: u64) -> bool {
    use rustix::time::{ClockId, clock_gettime};
    let ns = |clock| {
        let time = clock_gettime(clock);
        (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
    };
    let asleep = ns(ClockId::Boottime).saturating_sub(ns(ClockId::Monotonic));
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    started.saturating_mul(tick_ns).abs_diff(at_ns.saturating_add(asleep)) < START_SLACK_NS
}

fn is_interpreter(command: &[u8]) -> bool {
    const NAMES: [&[u8]; 9] = [b"python", b"perl", b"ruby", b"node", b"bash", b"dash", b"sh", b"php", b"lua"];
    NAMES.iter().any(|name| {
        command.strip_prefix(*name).is_some_and(|rest| rest.iter().all(|b| b.is_ascii_digit() || *b == b'.'))
    })
}

/// The script's or module's name in an interpreter's command line; `None` if it runs none.
fn script_of(line: &[u8]) -> Option<Vec<u8>> {
    let mut arguments = line.split(|byte| *byte == 0).skip(1);
    loop {
        let argument = arguments.next().filter(|argument| !argument.is_empty())?;
        if argument == b"-m" {
            return arguments.next().map(<[u8]>::to_vec);
        }
        if argument == b"-c" || argument == b"-e" || argument == b"-" {
            return None;
        }
        if !argument.starts_with(b"-") {
            let name = argument.rsplit(|byte| *byte == b'/').next()?;
            return (!name.is_empty()).then(|| name.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family() -> Family {
        Family::new(Path::new("/nonexistent"), Some(1))
    }

    fn fork(parent_tgid: u32, pid: u32) -> ProcessEvent {
        ProcessEvent::Fork { parent_tgid, child_pid: pid, child_tgid: pid, at_ns: 5 }
    }

    fn exit(pid: u32) -> ProcessEvent {
        ProcessEvent::Exit { pid, tgid: pid }
    }

    fn strength(family: &Family, pid: u32) -> Option<Strength> {
        family.judge_recent(pid).map(|(strength, _)| strength)
    }

    /// The name is read when the exec is heard, so the client here is a real process that waits.
    #[test]
    fn a_client_of_another_daemon_is_noticed() {
        let folder = std::env::temp_dir().join(format!("kobj-family-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        // By another process: what other tests start meanwhile would inherit a descriptor that is open for writing here.
        let copied = std::process::Command::new("install").arg("/bin/cat").arg(folder.join("docker")).status();
        assert!(copied.unwrap().success());
        let mut child = std::process::Command::new(folder.join("docker"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut family = Family::new(Path::new("/proc"), None);
        family.set_root(child.id());
        let noticed: Vec<_> = family.daemon_clients().collect();
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(noticed, ["docker"]);
    }

    #[test]
    fn members_are_what_the_keeper_and_members_fork() {
        let mut family = family();
        // 10 is the command; 12 was made with CLONE_PARENT, so that the keeper is its parent; 20 and 21 are strangers.
        for event in [fork(1, 10), fork(10, 11), fork(1, 12), fork(2, 20), fork(20, 21)] {
            family.apply(event);
        }
        let mut living = family.living();
        living.sort_unstable();
        assert_eq!(living, [10, 11, 12]);
        assert_eq!(strength(&family, 11), Some(Strength::Proof));
        assert_eq!(strength(&family, 21), None);
        assert_eq!(family.counts(), (3, 0));
    }

    #[test]
    fn a_process_ends_with_its_last_thread_and_an_exec_leaves_one() {
        let mut family = family();
        family.apply(fork(1, 10));
        family.apply(ProcessEvent::Fork { parent_tgid: 1, child_pid: 11, child_tgid: 10, at_ns: 6 });
        // The leader ends first; its thread works on.
        family.apply(exit(10));
        assert_eq!(family.living(), [10]);
        family.apply(fork(10, 12));
        family.apply(ProcessEvent::Exit { pid: 11, tgid: 10 });
        assert_eq!(family.living(), [12]);
        // Thread 14 executes: the other two end, and it takes the leader's number.
        for thread in [13, 14] {
            family.apply(ProcessEvent::Fork { parent_tgid: 1, child_pid: thread, child_tgid: 12, at_ns: 7 });
        }
        // One end is told after the new program has begun to run.
        family.apply(exit(12));
        family.apply(ProcessEvent::Exec { tgid: 12, at_ns: 1 });
        family.apply(ProcessEvent::Exit { pid: 13, tgid: 12 });
        assert_eq!(family.living(), [12]);
        family.apply(exit(12));
        assert!(family.living().is_empty());
        assert_eq!(family.counts(), (2, 2));
        assert!(!family.has_lost());
    }

    #[test]
    fn a_number_that_was_also_a_stranger_s_in_the_window_is_a_hint() {
        let mut family = family();
        family.apply(fork(1, 10));
        family.apply(fork(10, 11));
        family.apply(exit(11));
        assert_eq!(strength(&family, 11), Some(Strength::Proof), "ended, and nobody else had it");
        family.apply(fork(2, 11));
        assert_eq!(strength(&family, 11), Some(Strength::Hint));
        assert_eq!(family.judge_ever(11), Some(Strength::Hint));
        family.forget_ended();
        assert_eq!(strength(&family, 11), None, "the stranger alone has it now");
        // A stranger's old number comes to the job, in the same window: hint; in a later one: proof.
        family.apply(exit(11));
        family.apply(fork(10, 11));
        assert_eq!(strength(&family, 11), Some(Strength::Hint));
        family.forget_ended();
        assert_eq!(strength(&family, 11), Some(Strength::Proof));
        assert_eq!(family.judge_ever(11), Some(Strength::Hint), "the whole time is the window here");
        assert_eq!(family.judge_ever(10), Some(Strength::Proof));
        assert_eq!(family.judge_ever(12), None);
    }

    #[test]
    fn the_number_of_the_command_may_have_had_a_life_before() {
        let mut family = Family::new(Path::new("/nonexistent"), None);
        family.set_root(10);
        family.apply(exit(10));
        assert_eq!(family.living(), [10], "that was another life");
        family.apply(fork(7, 10));
        assert_eq!(family.judge_ever(10), Some(Strength::Hint));
        family.apply(exit(10));
        assert!(family.living().is_empty());
    }

    #[test]
    fn a_command_that_ended_before_it_was_named_does_not_live_again() {
        let mut family = family();
        family.apply(fork(1, 10));
        family.apply(exit(10));
        family.set_root(10);
        assert!(family.living().is_empty());
        assert_eq!(family.counts(), (1, 1));
    }

    #[test]
    fn after_a_loss_nothing_said_by_number_is_proof() {
        let mut family = family();
        family.apply(fork(1, 10));
        family.apply(ProcessEvent::Lost);
        assert_eq!(strength(&family, 10), Some(Strength::Hint));
        assert_eq!(family.judge_ever(10), Some(Strength::Hint));
    }

    #[test]
    fn changed_words_are_told_once() {
        let mut set = PidSet::default();
        for pid in [3, 64, 4_194_303, PID_LIMIT, u32::MAX] {
            set.insert(pid);
        }
        let mut told = Vec::new();
        set.take_changes(|word, bits| told.push((word, bits)));
        assert_eq!(told, [(0, 8), (1, 1), (65_535, 1 << 63)]);
        set.insert(3);
        set.take_changes(|_, _| panic!("nothing changed"));
        assert!(!set.contains(PID_LIMIT) && set.contains(4_194_303));
        assert_eq!(PidSet::from_words(set.words().to_vec()).words(), set.words());
    }

    #[test]
    fn scripts_are_named_instead_of_their_interpreter() {
        assert!(is_interpreter(b"python3.13") && !is_interpreter(b"pythonista") && is_interpreter(b"sh"));
        assert_eq!(script_of(b"python3\0-u\0/home/a/train.py\0--x\0"), Some(b"train.py".to_vec()));
        assert_eq!(script_of(b"python3\0-m\0pytest\0"), Some(b"pytest".to_vec()));
        assert_eq!(script_of(b"python3\0-c\0print(1)\0"), None);
        assert_eq!(script_of(b"sh\0"), None);
    }

    #[test]
    fn a_hundred_thousand_forks_stay_small() {
        let mut family = family();
        family.apply(fork(1, 10));
        for n in 0..100_000_u32 {
            let pid = 100 + n % 30_000;
            family.apply(fork(10, pid));
            family.apply(exit(pid));
            if n % 100 == 0 {
                family.forget_ended();
            }
        }
        assert_eq!(family.counts(), (100_001, 100_000));
        assert!(family.ended.capacity() < 5_000 && family.living.capacity() < 1_000);
        assert_eq!(family.judge_ever(29_000), Some(Strength::Proof));
    }
}
