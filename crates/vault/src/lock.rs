//! Locks of a vault: files that say who is using it, as restic writes and reads them.
//!
//! Whoever reads or writes takes a shared lock, whoever removes takes an exclusive one. Storage cannot compare and set, so
//! taking one is: look at the others, write ours, wait, look again, and give way if somebody excludes us: of two who wrote
//! at once, each sees the other. A lock is refreshed by a new file before the old one goes. One that was not refreshed for
//! long is stale, and may be removed while its owner still runs (stopped, suspended, cut off from the storage); so a writer
//! proves, before whatever it publishes, that its own lock is still there and young.

use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::Repository;
use crate::storage::{FileKind, Listed, Name};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between writing a lock and looking again: longer than a listing needs to show what somebody else wrote.
pub const SECOND_LOOK: Duration = Duration::from_millis(200);
/// How often a held lock is refreshed.
pub const REFRESH: Duration = Duration::from_secs(5 * 60);
/// A lock older than this is stale, whoever holds it.
pub const STALE: SignedDuration = SignedDuration::from_mins(30);
/// A lock of a process of this host that is gone is stale when it is older than this; host names may be shared.
pub const STALE_WHEN_DEAD: SignedDuration = SignedDuration::from_mins(10);
/// A lock older than this proves nothing to its own holder: well before others may call it stale.
pub const PROOF: SignedDuration = SignedDuration::from_mins(22);
/// Bytes of a lock file that are read at most.
pub const BYTES_MAX: u64 = 64 << 10;

/// What locks need of a vault: its lock files, decrypted.
pub trait LockFiles: Send + Sync {
    /// All lock files.
    ///
    /// # Errors
    /// Those of the storage.
    fn list(&self) -> Result<Vec<Listed>>;
    /// The text of one.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is gone, [`Error::Damaged`] when it cannot be read as a file of this vault.
    fn load(&self, id: &Id) -> Result<Vec<u8>>;
    /// Stores one, durably.
    ///
    /// # Errors
    /// Those of the storage.
    fn save(&self, text: &[u8]) -> Result<Id>;
    /// Removes one.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is gone, and those of the storage.
    fn remove(&self, id: &Id) -> Result<()>;
}

impl LockFiles for Repository {
    fn list(&self) -> Result<Vec<Listed>> {
        self.storage().list_all(FileKind::Lock)
    }

    fn load(&self, id: &Id) -> Result<Vec<u8>> {
        self.load_file(FileKind::Lock, id)
    }

    fn save(&self, text: &[u8]) -> Result<Id> {
        self.save_file(FileKind::Lock, text)
    }

    fn remove(&self, id: &Id) -> Result<()> {
        self.storage().remove(&Name::new(FileKind::Lock, *id))
    }
}

/// The time, as locks see it; injected, so that tests and simulations need not wait.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment that goes on while the machine sleeps and is never set.
    fn elapsed(&self) -> SignedDuration;
    /// Lets time pass.
    fn wait(&self, time: Duration);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> SignedDuration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        SignedDuration::new(time.tv_sec, i32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Whether others may use the vault meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Others may read and add.
    Shared,
    /// Nobody else may do anything.
    Exclusive,
}

/// A lock file's content: restic's names and order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was written or refreshed, RFC 3339.
    pub time: String,
    /// Whether nobody else may use the vault.
    #[serde(default)]
    pub exclusive: bool,
    /// The holder's host.
    #[serde(default)]
    pub hostname: String,
    /// The holder's user.
    #[serde(default)]
    pub username: String,
    /// The holder's process on that host.
    #[serde(default)]
    pub pid: i64,
    /// The holder's user id; 0 is left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The holder's group id; 0 is left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Record {
    /// A record of this process.
    #[must_use]
    pub fn of_this_process(sharing: Sharing, now: Timestamp) -> Self {
        let name = rustix::system::uname();
        let uid = rustix::process::getuid().as_raw();
        Self {
            time: now.to_string(),
            exclusive: sharing == Sharing::Exclusive,
            hostname: name.nodename().to_string_lossy().into_owned(),
            username: std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| uid.to_string()),
            pid: i64::from(rustix::process::getpid().as_raw_nonzero().get()),
            uid,
            gid: rustix::process::getgid().as_raw(),
        }
    }

    /// Reads a lock file's text.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is none.
    pub fn parse(id: &Id, text: &[u8]) -> Result<Self> {
        let wrong = |why: &dyn std::fmt::Display| Error::damaged(format_args!("lock {id}"), why);
        let record: Self = serde_json::from_slice(text).map_err(|e| wrong(&e))?;
        record.time.parse::<Timestamp>().map_err(|e| wrong(&e))?;
        Ok(record)
    }

    /// How old it is; `None` when its time cannot be read.
    fn age(&self, now: Timestamp) -> Option<SignedDuration> {
        self.time.parse::<Timestamp>().ok().map(|time| now.duration_since(time))
    }

    /// Whether `unlock` and the scheduled prune may remove it: old, or of a process of this host that is gone.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let Some(age) = self.age(now) else { return false };
        age > STALE || (age > STALE_WHEN_DEAD && self.is_dead_here())
    }

    fn is_dead_here(&self) -> bool {
        let name = rustix::system::uname();
        if self.hostname != name.nodename().to_string_lossy() {
            return false;
        }
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
    }

    fn holder(&self, id: &Id, now: Timestamp) -> String {
        let sort = if self.exclusive { "exclusively " } else { "" };
        let age = self.age(now).map_or_else(String::new, |age| format!(", refreshed {} s ago", age.as_secs()));
        let (pid, user, host) = (self.pid, &self.username, &self.hostname);
        format!(
            "{sort}by process {pid} of {user} on {host}{age} (lock {}); wait (--retry-lock 5m), or, if it is gone, \
             `kobj vault unlock`",
            id.short()
        )
    }
}

/// The lock file that this process has in the vault at the moment.
struct Own {
    id: Id,
    /// When it was written, by the time of day and by the clock that is never set.
    written: Timestamp,
    elapsed: SignedDuration,
}

/// What the holder and its refreshing thread share.
struct Shared {
    files: Arc<dyn LockFiles>,
    clock: Arc<dyn Clock>,
    sharing: Sharing,
    own: Mutex<Own>,
    is_over: Mutex<bool>,
    over: Condvar,
}

/// A lock that is held, and refreshed by a thread of its own until it is dropped.
pub struct Lock {
    shared: Arc<Shared>,
    refresher: Option<JoinHandle<()>>,
}

impl Lock {
    /// Takes a lock; while somebody excludes it, waits up to `retry` for them.
    ///
    /// # Errors
    /// [`Error::Locked`] when somebody still excludes it; those of the storage. No file of ours is left then.
    pub fn take(files: Arc<dyn LockFiles>, clock: Arc<dyn Clock>, sharing: Sharing, retry: Duration) -> Result<Self> {
        let retry = SignedDuration::try_from(retry).unwrap_or(SignedDuration::MAX);
        let until = clock.elapsed().saturating_add(retry);
        let mut pause = Duration::from_secs(1);
        let own = loop {
            match take_once(&*files, &*clock, sharing) {
                Err(Error::Locked { .. }) if clock.elapsed() < until => {
                    let left = until.saturating_sub(clock.elapsed()).unsigned_abs();
                    clock.wait(pause.min(left));
                    pause = (pause * 2).min(Duration::from_secs(60));
                }
                other => break other?,
            }
        };
        let (own, is_over) = (Mutex::new(own), Mutex::new(false));
        let shared = Arc::new(Shared { files, clock, sharing, own, is_over, over: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let refresher = std::thread::Builder::new().name("vault-lock".into()).spawn(move || theirs.keep_fresh());
        match refresher {
            Ok(refresher) => Ok(Self { shared, refresher: Some(refresher) }),
            Err(e) => {
                shared.remove_own();
                Err(Error::io("start", "the thread that refreshes the lock", e))
            }
        }
    }

    /// Whether others may use the vault meanwhile.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        self.shared.sharing
    }

    /// The lock's file at the moment.
    #[must_use]
    pub fn id(&self) -> Id {
        locked(&self.shared.own).id
    }

    /// Proves that this lock still keeps others out; whoever publishes something calls it just before.
    ///
    /// # Errors
    /// [`Error::Locked`] when the lock was removed, or was not refreshed for 22 minutes: somebody may have called it stale
    /// and pruned what was about to be published. Nothing more may be published then.
    pub fn prove(&self) -> Result<()> {
        self.shared.prove()
    }

    /// Writes the lock anew.
    ///
    /// # Errors
    /// Those of [`Lock::prove`] and of the storage.
    pub fn refresh(&self) -> Result<()> {
        self.shared.refresh()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        *locked(&self.shared.is_over) = true;
        self.shared.over.notify_all();
        if let Some(refresher) = self.refresher.take() {
            // It cannot panic; and if it did, the lock must go all the same.
            _ = refresher.join();
        }
        self.shared.remove_own();
    }
}

impl Shared {
    fn keep_fresh(&self) {
        let mut is_over = locked(&self.is_over);
        while !*is_over {
            let (guard, waited) = self.over.wait_timeout(is_over, REFRESH).unwrap_or_else(PoisonError::into_inner);
            is_over = guard;
            if waited.timed_out() && !*is_over {
                drop(is_over);
                // A refresh that fails is tried again; `prove` is what notices when it failed for too long.
                _ = self.refresh();
                is_over = locked(&self.is_over);
            }
        }
    }

    fn prove(&self) -> Result<()> {
        let own = locked(&self.own);
        self.prove_own(&own)
    }

    fn prove_own(&self, own: &Own) -> Result<()> {
        let age = self.age(own);
        if age > PROOF {
            return Err(Error::Locked {
                holder: format!(
                    "our own lock was last refreshed {} s ago and may have been called stale (this process or machine was \
                     stopped, or the storage was away); nothing more was stored, run it again",
                    age.as_secs()
                ),
            });
        }
        if self.files.list()?.iter().any(|file| file.id == own.id) {
            return Ok(());
        }
        Err(Error::Locked {
            holder: format!(
                "our own lock {} was removed, by `unlock` or by hand; nothing more was stored, run it again",
                own.id.short()
            ),
        })
    }

    /// By whichever clock says more: one may have been set back, the other started anew.
    fn age(&self, own: &Own) -> SignedDuration {
        let by_day = self.clock.now().duration_since(own.written);
        by_day.max(self.clock.elapsed().saturating_sub(own.elapsed))
    }

    fn refresh(&self) -> Result<()> {
        let mut own = locked(&self.own);
        // A lock that others may have removed must not come back to life: they rely on its end.
        self.prove_own(&own)?;
        let fresh = write(&*self.files, &*self.clock, self.sharing)?;
        let old = std::mem::replace(&mut *own, fresh);
        match self.files.remove(&old.id) {
            Err(Error::Missing { .. }) => Ok(()),
            other => other,
        }
    }

    fn remove_own(&self) {
        let own = locked(&self.own);
        // Left behind it goes stale; whoever meets it is told what to do.
        _ = self.files.remove(&own.id);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_once(files: &dyn LockFiles, clock: &dyn Clock, sharing: Sharing) -> Result<Own> {
    refuse_others(files, clock, sharing, None)?;
    let own = write(files, clock, sharing)?;
    clock.wait(SECOND_LOOK);
    if let Err(e) = refuse_others(files, clock, sharing, Some(own.id)) {
        _ = files.remove(&own.id);
        return Err(e);
    }
    Ok(own)
}

fn write(files: &dyn LockFiles, clock: &dyn Clock, sharing: Sharing) -> Result<Own> {
    // Taken before the write: the lock is at least as old as it says.
    let (written, elapsed) = (clock.now(), clock.elapsed());
    let record = Record::of_this_process(sharing, written);
    let text = serde_json::to_vec(&record).map_err(|e| Error::refused("the lock's record", e))?;
    Ok(Own { id: files.save(&text)?, written, elapsed })
}

/// Refuses when a lock other than `own` excludes this sort.
fn refuse_others(files: &dyn LockFiles, clock: &dyn Clock, sharing: Sharing, own: Option<Id>) -> Result<()> {
    for file in files.list()?.into_iter().filter(|file| Some(file.id) != own) {
        let record = match files.load(&file.id).and_then(|text| Record::parse(&file.id, &text)) {
            Ok(record) => record,
            Err(Error::Missing { .. }) => continue,
            // Who cannot be asked may be anybody: it keeps out whoever removes. As restic, it keeps out nobody else.
            Err(e) if e.is_damage() && sharing == Sharing::Shared => continue,
            Err(e) if e.is_damage() => {
                let short = file.id.short();
                let holder = format!("lock {short} cannot be read: {e}; if nobody uses the vault, `kobj vault unlock`");
                return Err(Error::Locked { holder });
            }
            Err(e) => return Err(e),
        };
        if record.exclusive || sharing == Sharing::Exclusive {
            return Err(Error::Locked { holder: record.holder(&file.id, clock.now()) });
        }
    }
    Ok(())
}

/// Removes the locks that are stale, or all; returns which.
///
/// # Errors
/// Those of the storage; a lock that is gone already is no error.
pub fn unlock(files: &dyn LockFiles, clock: &dyn Clock, all: bool) -> Result<Vec<Id>> {
    let mut removed = Vec::new();
    for file in files.list()? {
        let stale = match files.load(&file.id).and_then(|text| Record::parse(&file.id, &text)) {
            Ok(record) => record.is_stale(clock.now()),
            Err(Error::Missing { .. }) => continue,
            // Nobody can hold what nobody can read: an interrupted write, or of a vault that stood here before.
            Err(e) if e.is_damage() => true,
            Err(e) => return Err(e),
        };
        if stale || all {
            match files.remove(&file.id) {
                Ok(()) => removed.push(file.id),
                Err(Error::Missing { .. }) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Lock files in memory; `before_second_look` runs when somebody waits for the first time.
    #[derive(Default)]
    struct Files(Mutex<BTreeMap<Id, Vec<u8>>>);

    impl LockFiles for Files {
        fn list(&self) -> Result<Vec<Listed>> {
            let files = locked(&self.0);
            Ok(files.iter().map(|(id, text)| Listed { id: *id, size_bytes: text.len() as u64 }).collect())
        }

        fn load(&self, id: &Id) -> Result<Vec<u8>> {
            let missing = Error::Missing { name: Name::new(FileKind::Lock, *id) };
            locked(&self.0).get(id).cloned().ok_or(missing)
        }

        fn save(&self, text: &[u8]) -> Result<Id> {
            let mut files = locked(&self.0);
            // As encryption does: the same text twice has two ids.
            let id = Id::of(&[text, &files.len().to_le_bytes()].concat());
            files.insert(id, text.to_vec());
            Ok(id)
        }

        fn remove(&self, id: &Id) -> Result<()> {
            let missing = Error::Missing { name: Name::new(FileKind::Lock, *id) };
            locked(&self.0).remove(id).map(|_| ()).ok_or(missing)
        }
    }

    type Meanwhile = Box<dyn FnMut() + Send>;

    /// Two clocks that stand until somebody waits or a test moves them.
    #[derive(Default)]
    struct Clocks {
        day_seconds: AtomicI64,
        elapsed_millis: AtomicI64,
        while_waiting: Mutex<Option<Meanwhile>>,
    }

    const START: i64 = 1_700_000_000;

    impl Clock for Clocks {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(START + self.day_seconds.load(Ordering::SeqCst)).unwrap()
        }

        fn elapsed(&self) -> SignedDuration {
            SignedDuration::from_millis(self.elapsed_millis.load(Ordering::SeqCst))
        }

        fn wait(&self, time: Duration) {
            self.elapsed_millis.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
            if let Some(meanwhile) = &mut *locked(&self.while_waiting) {
                meanwhile();
            }
        }
    }

    fn parts() -> (Arc<Files>, Arc<Clocks>) {
        (Arc::default(), Arc::default())
    }

    fn take(files: &Arc<Files>, clock: &Arc<Clocks>, sharing: Sharing) -> Result<Lock> {
        Lock::take(files.clone(), clock.clone(), sharing, Duration::ZERO)
    }

    fn put(files: &Files, record: &Record) -> Id {
        files.save(&serde_json::to_vec(record).unwrap()).unwrap()
    }

    fn is_locked<T>(result: Result<T>) -> bool {
        matches!(result, Err(Error::Locked { .. }))
    }

    #[test]
    fn shared_locks_stand_together_and_an_exclusive_one_alone() {
        let (files, clock) = parts();
        let first = take(&files, &clock, Sharing::Shared).unwrap();
        let second = take(&files, &clock, Sharing::Shared).unwrap();
        assert!(is_locked(take(&files, &clock, Sharing::Exclusive)));
        assert_eq!(files.list().unwrap().len(), 2);
        drop((first, second));
        assert!(files.list().unwrap().is_empty());
        let alone = take(&files, &clock, Sharing::Exclusive).unwrap();
        assert!(is_locked(take(&files, &clock, Sharing::Shared)));
        assert!(is_locked(take(&files, &clock, Sharing::Exclusive)));
        assert_eq!(files.list().unwrap(), [Listed { id: alone.id(), size_bytes: files.list().unwrap()[0].size_bytes }]);
    }

    #[test]
    fn who_wrote_meanwhile_is_seen_at_the_second_look_and_ours_goes() {
        let (files, clock) = parts();
        let (theirs, now) = (files.clone(), clock.now());
        *locked(&clock.while_waiting) = Some(Box::new(move || {
            put(&theirs, &Record::of_this_process(Sharing::Exclusive, now));
        }));
        assert!(is_locked(take(&files, &clock, Sharing::Shared)));
        assert_eq!(files.list().unwrap().len(), 1, "only theirs is left");
    }

    #[test]
    fn who_waits_gets_the_lock_when_the_other_is_gone_and_gives_up_in_time() {
        let (files, clock) = parts();
        let other = put(&files, &Record::of_this_process(Sharing::Exclusive, clock.now()));
        let patient =
            |seconds| Lock::take(files.clone(), clock.clone(), Sharing::Exclusive, Duration::from_secs(seconds));
        assert!(is_locked(patient(100)));
        assert_eq!(clock.elapsed().as_secs(), 100);
        let theirs = files.clone();
        *locked(&clock.while_waiting) = Some(Box::new(move || _ = theirs.remove(&other)));
        assert!(patient(100).is_ok());
    }

    #[test]
    fn a_lock_proves_itself_while_it_is_there_and_young_by_either_clock() {
        let (files, clock) = parts();
        let lock = take(&files, &clock, Sharing::Shared).unwrap();
        lock.prove().unwrap();
        let first = lock.id();
        clock.day_seconds.store(21 * 60, Ordering::SeqCst);
        lock.refresh().unwrap();
        assert_ne!(lock.id(), first);
        assert_eq!(files.list().unwrap().len(), 1);
        clock.day_seconds.store(42 * 60, Ordering::SeqCst);
        lock.prove().unwrap();
        clock.day_seconds.store(44 * 60, Ordering::SeqCst);
        assert!(is_locked(lock.prove()));
        assert!(is_locked(lock.refresh()), "an old lock does not come back to life");
        // Set back, the time of day hides nothing.
        clock.day_seconds.store(0, Ordering::SeqCst);
        lock.prove().unwrap();
        clock.elapsed_millis.store(23 * 60_000, Ordering::SeqCst);
        assert!(is_locked(lock.prove()));
        clock.elapsed_millis.store(0, Ordering::SeqCst);
        files.remove(&lock.id()).unwrap();
        assert!(is_locked(lock.prove()));
        assert!(is_locked(lock.refresh()));
        assert!(files.list().unwrap().is_empty());
    }

    #[test]
    fn stale_is_what_is_old_or_of_a_dead_process_here_that_was_not_refreshed() {
        let now = Timestamp::from_second(START).unwrap();
        let aged = |minutes: i64, hostname: Option<&str>, pid: Option<i64>| {
            let then = now - SignedDuration::from_mins(minutes) - SignedDuration::from_secs(1);
            let mut record = Record::of_this_process(Sharing::Shared, then);
            record.hostname = hostname.map_or(record.hostname, str::to_string);
            record.pid = pid.unwrap_or(record.pid);
            record.is_stale(now)
        };
        // The largest number is no process: pids end far below.
        let dead = Some(i64::from(i32::MAX));
        assert!(!aged(29, None, None) && aged(30, None, None));
        assert!(!aged(9, None, dead) && aged(10, None, dead));
        assert!(!aged(29, Some("elsewhere"), dead) && aged(30, Some("elsewhere"), dead));
        assert!(!aged(-100, None, dead), "a clock that was set back makes nothing stale");
    }

    #[test]
    fn unlock_removes_what_is_stale_or_unreadable_and_all_when_told() {
        let (files, clock) = parts();
        let old = clock.now() - SignedDuration::from_mins(31);
        let stale = put(&files, &Record::of_this_process(Sharing::Exclusive, old));
        let fresh = put(&files, &Record::of_this_process(Sharing::Shared, clock.now()));
        let broken = files.save(b"{}").unwrap();
        assert!(
            is_locked(take(&files, &clock, Sharing::Shared)),
            "not judged stale by who only wants to use the vault"
        );
        let mut removed = unlock(&*files, &*clock, false).unwrap();
        removed.sort_unstable();
        let mut expected = vec![stale, broken];
        expected.sort_unstable();
        assert_eq!(removed, expected);
        assert_eq!(unlock(&*files, &*clock, true).unwrap(), [fresh]);
    }

    #[test]
    fn a_lock_that_cannot_be_read_keeps_out_who_removes_and_nobody_else() {
        let (files, clock) = parts();
        files.save(b"not json").unwrap();
        assert!(take(&files, &clock, Sharing::Shared).is_ok());
        assert!(is_locked(take(&files, &clock, Sharing::Exclusive)));
    }

    #[test]
    fn a_record_has_restics_fields_in_restics_order() {
        let text = r#"{"time":"2024-05-06T07:08:09.123456789+02:00","exclusive":true,"hostname":"h","username":"u","pid":7,"uid":8,"gid":9}"#;
        let record = Record::parse(&Id::of(b""), text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        let of_root = Record { uid: 0, gid: 0, ..record };
        assert!(!serde_json::to_string(&of_root).unwrap().contains("uid"));
        for bad in ["", "{}", r#"{"time":"yesterday"}"#, "[1]"] {
            assert!(Record::parse(&Id::of(b""), bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
