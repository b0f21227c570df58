//! A million objects through the manager, with handles, names and quotas, a hundred thousand of them alive at once, and
//! not one left: with `plant-leak`, one is.

use alloc::collections::VecDeque;
use core::fmt::Write;
use kobj_abi::{AskedRights, Era, ErrorCode, Koid, RawHandle, Rights};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{Call, CallAnswer, CallError, Core, Ending, Limits, Resource, UNLIMITED, What};
use kobj_memory::Spin;

/// Objects made and destroyed; fewer where it is known beforehand that the image fails.
const OBJECTS: usize = if cfg!(feature = "plant-leak") { 200_000 } else { 1_000_000 };
/// Of them alive at once.
const ALIVE: usize = 100_000;
/// Processes that have them.
const GUESTS: usize = 4;

/// What the manager's books say at its end.
pub(crate) struct Books {
    /// Objects ever made.
    pub(crate) created: u64,
    /// Objects ever destroyed.
    pub(crate) destroyed: u64,
    /// Objects that still live.
    pub(crate) live: u64,
}

struct Guest {
    /// The embedder's handle to it.
    handle: RawHandle,
    /// By which it calls.
    process: Koid,
    /// Its own handle to the directory in which it names what it makes.
    directory: RawHandle,
}

/// A manager with the embedder's process, and guests in a job.
struct World {
    manager: Manager<Spin>,
    embedder: Koid,
    job: RawHandle,
    guests: [Guest; GUESTS],
}

/// Of every four objects guests make three, which their job is charged for.
const MADE_BY_GUESTS: u64 = ALIVE as u64 / 4 * 3;
/// A guest has a handle to the directory and one to each of its objects.
const HANDLES_OF_GUEST: u64 = (ALIVE / GUESTS) as u64 + 1;

impl World {
    fn new() -> Self {
        let limits = Limits { seed: 0x9e37_79b9_7f4a_7c15, ..Limits::default() };
        let manager: Manager<Spin> = Manager::new(Time(0), Era(1), limits).expect("a manager");
        let boot = manager.boot();
        let embedder = boot.process;
        let job = handle(&manager, embedder, Call::CreateJob { job: boot.job });
        let guests = core::array::from_fn(|_| {
            let made = manager.call(Time(0), embedder, Call::CreateGuest { job, inherit: false });
            let Ok(CallAnswer::Guest { handle: guest, process }) = made else { panic!("no guest: {made:?}") };
            let rights = AskedRights::Exactly(Rights::TRANSFER | Rights::LOOKUP | Rights::CREATE);
            let directory = handle(&manager, embedder, Call::Duplicate { handle: boot.directory, rights });
            let given = Call::Transfer { handle: directory, process: guest, rights: AskedRights::Same };
            Guest { handle: guest, process, directory: handle(&manager, embedder, given) }
        });
        let world = Self { manager, embedder, job, guests };
        world.limit(world.job, Resource::Objects, MADE_BY_GUESTS + GUESTS as u64);
        for guest in &world.guests {
            world.limit(guest.handle, Resource::Handles, HANDLES_OF_GUEST);
        }
        world
    }

    fn limit(&self, handle: RawHandle, resource: Resource, limit: u64) {
        let call = Call::SetQuota { handle, resource, limit };
        self.manager.call(Time(0), self.embedder, call).expect("a quota");
    }

    /// Has a guest make an object and name it; of every fourth the embedder makes it and gives away a handle with fewer
    /// rights.
    fn make(&self, index: usize) -> (Koid, RawHandle) {
        let (manager, embedder) = (&self.manager, self.embedder);
        let guest = &self.guests[index / 4 % GUESTS];
        let what =
            if index.is_multiple_of(2) { What::Directory } else { What::SymbolicLink { target: b"../elsewhere" } };
        if !index.is_multiple_of(4) {
            let own = handle(manager, guest.process, Call::Create { what });
            let most = AskedRights::Exactly(Rights::INSPECT);
            let name = &name(index);
            let link = Call::Link { directory: guest.directory, name, handle: own, most, permanent: false };
            manager.call(Time(0), guest.process, link).expect("a name that nobody has");
            return (guest.process, own);
        }
        let own = handle(manager, embedder, Call::Create { what });
        let rights = AskedRights::Exactly(Rights::INSPECT | Rights::TRANSFER);
        let less = handle(manager, embedder, Call::Duplicate { handle: own, rights });
        let given = Call::Transfer { handle: less, process: guest.handle, rights: AskedRights::Same };
        let theirs = handle(manager, embedder, given);
        close(manager, embedder, own);
        (guest.process, theirs)
    }

    /// At the limit one more is refused: an object by the job's quota, a handle by the guest's.
    fn is_full(&self, at_boot: u32) {
        assert_eq!(self.live() as usize, at_boot as usize + ALIVE);
        let guest = &self.guests[0];
        let one_more = || {
            let made = self.manager.call(Time(0), guest.process, Call::Create { what: What::Directory });
            let refused = made.expect_err("the quota is used up");
            assert_eq!(refused.code(), ErrorCode::Quota);
            refused
        };
        let by_guest = one_more();
        self.limit(guest.handle, Resource::Handles, UNLIMITED);
        let by_job = one_more();
        self.limit(guest.handle, Resource::Handles, HANDLES_OF_GUEST);
        assert!(matches!(by_guest, CallError::Quota { resource: Resource::Handles, limit: HANDLES_OF_GUEST, .. }));
        assert!(matches!(by_job, CallError::Quota { resource: Resource::Objects, .. }), "{by_job}");
    }

    fn live(&self) -> u32 {
        self.manager.with(|core| core.live())
    }

    /// Ends the guests and their job as an embedder does, then all the rest.
    fn end(self) -> Ending {
        self.manager.call(Time(0), self.embedder, Call::Kill { handle: self.job }).expect("a kill");
        self.manager.with(Core::shut_down);
        while self.manager.next_effect().is_some() {}
        let core = self.manager.with(|core| core::mem::replace(core, Core::new(Era(2))));
        core.finish().expect("the books agree")
    }
}

/// Makes and destroys them in the order of their making; names what is left.
pub(crate) fn run(console: &mut dyn Write) -> Books {
    let world = World::new();
    let at_boot = world.live();
    let mut alive: VecDeque<(Koid, RawHandle)> = VecDeque::with_capacity(ALIVE);
    for index in 0..OBJECTS {
        if alive.len() == ALIVE
            && let Some((guest, handle)) = alive.pop_front()
        {
            close(&world.manager, guest, handle);
        }
        alive.push_back(world.make(index));
        if index + 1 == ALIVE {
            world.is_full(at_boot);
        }
    }
    if cfg!(feature = "plant-leak") {
        // A handle that nobody closes.
        alive.pop_front();
    }
    for (guest, handle) in alive {
        close(&world.manager, guest, handle);
    }
    while world.manager.go_on() {}
    // The end of a job takes all with it, so what was left is looked for before.
    let left = u64::from(world.live() - at_boot);
    let newest = world.guests[GUESTS - 1].process;
    if left > 0 {
        let _ = writeln!(console, "left: {left} object(s); a handle to each was never closed:");
        world.manager.with(|core| name_newer_than(core, newest, console));
    }
    let ending = world.end();
    let sum = |of: fn(&kobj_core::Tally) -> u64| ending.balance.rows().map(|(_, tally)| of(&tally)).sum::<u64>();
    let live = ending.balance.live() + left;
    Books { created: sum(|tally| tally.created), destroyed: sum(|tally| tally.destroyed) - left, live }
}

/// Names what lives and was made after a koid.
fn name_newer_than(core: &Core, oldest: Koid, console: &mut dyn Write) {
    let newer = (oldest.counter() + 1..).map_while(|counter| Koid::new(oldest.era(), counter));
    for info in newer.take(OBJECTS).filter_map(|koid| core.query(koid).ok()) {
        let owner = info.owner.unwrap_or(info.tag.koid);
        let _ = writeln!(console, "left: {} ({}), charged to job {owner}", info.tag, info.object_type.name());
    }
}

/// Sixteen hexadecimal digits.
fn name(index: usize) -> [u8; 16] {
    core::array::from_fn(|place| b"0123456789abcdef"[index >> (60 - 4 * place) & 15])
}

fn handle(manager: &Manager<Spin>, process: Koid, call: Call<'_>) -> RawHandle {
    match manager.call(Time(0), process, call) {
        Ok(CallAnswer::Handle(handle)) => handle,
        other => panic!("{call:?}: {other:?}"),
    }
}

fn close(manager: &Manager<Spin>, process: Koid, handle: RawHandle) {
    manager.call(Time(0), process, Call::Close { handle }).expect("a handle that is open");
}
