//! Threads that make, duplicate, derive, revoke, name, open, move, look at and close handles of two guests at once, each in a
//! job of its own, within a quota and over a kill: afterwards every book is compared with what is there, and each hook of each
//! object has run exactly once.

use kobj_abi::{AskedRights, Era, ErrorCode, Koid, RawHandle, Rights};
use kobj_core::embed::{Manager, Thread};
use kobj_core::image::Time;
use kobj_core::platform::Heap;
use kobj_core::{Call, CallAnswer, CallError, Limits, ObjectType, Resource, TypeKey};
use kobj_memory::{Shared, Spin, Table};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const NOW: Time = Time(0);
const SAME: AskedRights = AskedRights::Same;
const ROUNDS: u32 = 1500;
const LIMIT: u64 = 60;

/// What became of one object.
#[derive(Default)]
struct Fate {
    closed: AtomicU64,
    destroyed: AtomicU64,
    /// Whether its maker got a handle to it.
    is_made: AtomicBool,
}

struct Token(Arc<Fate>);

struct Item;

impl ObjectType for Item {
    const TAG: [u8; 4] = *b"ITEM";
    const NAME: &'static str = "item";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = Token;

    fn last_close(_: Koid, state: &Token) {
        state.0.closed.fetch_add(1, Ordering::Relaxed);
    }

    fn destroy(_: Koid, state: &Token) {
        state.0.destroyed.fetch_add(1, Ordering::Relaxed);
    }
}

struct Guest {
    /// In the embedder's table.
    handle: RawHandle,
    process: Koid,
    table: Shared<Table>,
    /// Its handle to the directory in which all name.
    directory: RawHandle,
    /// Its handle to the other guest.
    other: Option<RawHandle>,
    pool: Mutex<Vec<RawHandle>>,
}

struct Storm {
    manager: Manager<Spin>,
    key: TypeKey<Item>,
    job: Koid,
    guests: [Guest; 2],
    fates: Mutex<Vec<Arc<Fate>>>,
}

impl Storm {
    fn new() -> Self {
        let manager = Manager::new(NOW, Era(7), Limits { seed: 1, work_per_step: 4, ..Limits::default() }).unwrap();
        let key = manager.register::<Item>().unwrap();
        let boot = manager.boot();
        let handle = |call| match manager.call(NOW, boot.process, call) {
            Ok(CallAnswer::Handle(handle)) => handle,
            other => panic!("{other:?}"),
        };
        let job = handle(Call::CreateJob { job: boot.job });
        let mut guests = [0, 1].map(|_| {
            let job = handle(Call::CreateJob { job });
            let call = Call::CreateGuest { job, inherit: false };
            let Ok(CallAnswer::Guest { handle, process }) = manager.call(NOW, boot.process, call) else {
                panic!("no guest")
            };
            let Ok(CallAnswer::Info(root)) =
                manager.call(NOW, boot.process, Call::HandleInfo { handle: boot.directory })
            else {
                panic!("no directory")
            };
            let directory = manager.grant(process, root.koid, SAME).unwrap();
            let table = manager.table(process).unwrap();
            Guest { handle, process, table, directory, other: None, pool: Mutex::default() }
        });
        for at in 0..2 {
            guests[at].other = Some(manager.grant(guests[at].process, guests[1 - at].process, SAME).unwrap());
        }
        let limit = Call::SetQuota { handle: job, resource: Resource::Objects, limit: LIMIT };
        manager.call(NOW, boot.process, limit).unwrap();
        let Ok(CallAnswer::Info(info)) = manager.call(NOW, boot.process, Call::HandleInfo { handle: job }) else {
            panic!("no job")
        };
        Self { manager, key, job: info.koid, guests, fates: Mutex::default() }
    }

    fn used(&self, resource: Resource) -> u64 {
        self.manager.with(|core| core.usage(self.job, resource)).unwrap().used
    }

    /// One of many things, which may be refused.
    fn act(&self, thread: &mut Thread<'_, Spin, Heap, Item>, at: usize, random: u64) -> Result<(), CallError> {
        let guest = &self.guests[at];
        let put = |handle| guest.pool.lock().unwrap().push(handle);
        let pick = |take: bool| {
            let mut pool = guest.pool.lock().unwrap();
            let at = (random >> 8) as usize % pool.len().max(1);
            if take && !pool.is_empty() { Some(pool.swap_remove(at)) } else { pool.get(at).copied() }
        };
        let call = |call| self.manager.call(NOW, guest.process, call);
        let made = |answer| {
            if let CallAnswer::Handle(handle) = answer {
                put(handle);
            }
        };
        let what = random % 14;
        if what < 3 {
            let fate = Arc::new(Fate::default());
            self.fates.lock().unwrap().push(fate.clone());
            put(thread.create(NOW, Token(fate.clone()))?);
            fate.is_made.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let directory = guest.directory;
        let name: &[u8] = if random & 64 == 0 { b"one" } else { b"two" };
        let Some(handle) = pick(matches!(what, 4..=6 | 12)) else { return Ok(()) };
        match what {
            3 => put(thread.duplicate(NOW, handle, SAME)?),
            4 | 5 => thread.close(NOW, handle)?,
            6 => drop(call(Call::Close { handle })?),
            7 => made(call(Call::Derive { handle, rights: SAME })?),
            8 => drop(call(Call::Revoke { handle })?),
            9 => drop(call(Call::Link { directory, name, handle, most: SAME, permanent: false })?),
            10 => {
                made(call(Call::Open { directory, path: name, rights: SAME, expected: None, follow: true })?);
            }
            11 => drop(call(Call::Unlink { directory, name })?),
            12 => {
                let Some(process) = guest.other else { return Ok(()) };
                if let CallAnswer::Handle(moved) = call(Call::Transfer { handle, process, rights: SAME })? {
                    self.guests[1 - at].pool.lock().unwrap().push(moved);
                }
            }
            _ => {
                let guard = self.manager.lookup(guest.process, &guest.table, handle, None, Rights::NONE)?;
                let _closed = thread.close(NOW, handle);
                let held = guard.hold()?;
                drop(guard);
                drop(held);
            }
        }
        Ok(())
    }

    fn work(&self, at: usize, seed: u64) {
        let Ok(mut thread) = self.manager.thread(self.guests[at].process, &self.key) else { return };
        let mut random = seed;
        for _ in 0..ROUNDS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if let Err(error) = self.act(&mut thread, at, random >> 20) {
                // Whatever a call may be refused for; never for want of memory.
                assert_ne!(error.code(), ErrorCode::NoMemory, "seed {seed}: {error}");
            }
        }
    }
}

#[test]
fn all_books_agree_with_what_is_there_after_a_storm() {
    for seed in 0..40_u64 {
        let storm = Storm::new();
        let me = storm.manager.boot().process;
        let kill = |at: usize| {
            storm.manager.call(NOW, me, Call::Kill { handle: storm.guests[at].handle }).unwrap();
        };
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let storm = &storm;
                scope.spawn(move || storm.work(worker % 2, seed * 3 + worker as u64 + 1));
            }
            for _ in 0..100 {
                assert!(storm.used(Resource::Objects) <= LIMIT, "seed {seed}: the quota is passed");
                std::thread::yield_now();
            }
            if seed % 2 == 0 {
                kill(0);
            }
        });
        while storm.manager.go_on() {}
        let number = storm.key.number();
        // What is there, counted one by one.
        storm.manager.with(|core| core.audit().unwrap_or_else(|imbalance| panic!("seed {seed}: {imbalance}")));
        let live = storm.manager.with(|core| core.type_info(number).unwrap().tally.live);
        assert_eq!(storm.used(Resource::ObjectsOf(number)), live, "seed {seed}");
        let handles: u64 = storm.guests.iter().map(|guest| u64::from(guest.table.live())).sum();
        assert_eq!(storm.used(Resource::Handles), handles, "seed {seed}");
        kill(1);
        if seed % 2 == 1 {
            kill(0);
        }
        while storm.manager.go_on() {}
        assert_eq!((storm.used(Resource::Handles), storm.used(Resource::ObjectsOf(number))), (0, 0), "seed {seed}");
        for fate in &*storm.fates.lock().unwrap() {
            let [closed, destroyed] = [&fate.closed, &fate.destroyed].map(|count| count.load(Ordering::Relaxed));
            // One that a kill came before was made and closed by its maker, who was refused; all else that is refused is
            // none, and has no hooks.
            let may_be_none = !fate.is_made.load(Ordering::Relaxed);
            let is_right = (closed, destroyed) == (1, 1) || may_be_none && (closed, destroyed) == (0, 0);
            assert!(is_right, "seed {seed}: last-close {closed}, destroy {destroyed}");
            assert_eq!(Arc::strong_count(fate), 1, "seed {seed}: a state is left");
        }
        storm.manager.with(|core| core.audit().unwrap_or_else(|imbalance| panic!("seed {seed}: {imbalance}")));
    }
}
