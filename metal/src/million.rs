//! A million objects through handles, a hundred thousand of them alive at once, and not one left: with `plant-leak`, one is.

use alloc::collections::VecDeque;
use core::fmt::Write;
use kobj_abi::{AskedRights, Era, Koid, RawHandle, Rights};
use kobj_core::image::Time;
use kobj_core::{Call, CallAnswer, Core, Limits, What};

/// Objects made and destroyed; fewer where it is known beforehand that the image fails.
const OBJECTS: usize = if cfg!(feature = "plant-leak") { 200_000 } else { 1_000_000 };
/// Of them alive at once.
const ALIVE: usize = 100_000;
/// Processes that get them.
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
    core: Core,
    embedder: Koid,
    job: RawHandle,
    guests: [Guest; GUESTS],
}

impl World {
    fn new() -> Self {
        let mut core = Core::with_limits(Era(1), Limits { seed: 0x9e37_79b9_7f4a_7c15, ..Limits::default() });
        let boot = core.boot(Time(0)).expect("an embedded manager");
        let job = handle(&mut core, boot.process, Call::CreateJob { job: boot.job });
        let guests = core::array::from_fn(|_| {
            let made = core.call(Time(0), boot.process, Call::CreateGuest { job, inherit: false });
            let Ok(CallAnswer::Guest { handle: guest, process }) = made else { panic!("no guest: {made:?}") };
            let rights = AskedRights::Exactly(Rights::TRANSFER | Rights::LOOKUP | Rights::CREATE);
            let directory = handle(&mut core, boot.process, Call::Duplicate { handle: boot.directory, rights });
            let given = Call::Transfer { handle: directory, process: guest, rights: AskedRights::Same };
            Guest { handle: guest, process, directory: handle(&mut core, boot.process, given) }
        });
        Self { core, embedder: boot.process, job, guests }
    }

    /// Has a guest make an object and name it; of every fourth the embedder makes it and gives away a handle with fewer
    /// rights.
    fn make(&mut self, index: usize) -> (Koid, RawHandle) {
        let (core, embedder) = (&mut self.core, self.embedder);
        let guest = &self.guests[index / 4 % GUESTS];
        let what =
            if index.is_multiple_of(2) { What::Directory } else { What::SymbolicLink { target: b"../elsewhere" } };
        if !index.is_multiple_of(4) {
            let own = handle(core, guest.process, Call::Create { what });
            let most = AskedRights::Exactly(Rights::INSPECT);
            let name = &name(index);
            let link = Call::Link { directory: guest.directory, name, handle: own, most, permanent: false };
            core.call(Time(0), guest.process, link).expect("a name that nobody has");
            return (guest.process, own);
        }
        let own = handle(core, embedder, Call::Create { what });
        let rights = AskedRights::Exactly(Rights::INSPECT | Rights::TRANSFER);
        let less = handle(core, embedder, Call::Duplicate { handle: own, rights });
        let given = Call::Transfer { handle: less, process: guest.handle, rights: AskedRights::Same };
        let theirs = handle(core, embedder, given);
        close(core, embedder, own);
        (guest.process, theirs)
    }

    /// Ends the guests and their job as an embedder does, and the manager.
    fn end(mut self, console: &mut dyn Write, at_boot: u32) -> Books {
        while self.core.go_on() {}
        let kept = self.core.live() - at_boot;
        if kept == 0 {
            let _ = self.core.call(Time(0), self.embedder, Call::Kill { handle: self.job }).expect("a kill");
            self.core.shut_down();
            while self.core.next_effect().is_some() {}
        } else {
            let _ = writeln!(console, "left: {kept} objects that were not there at the beginning; all that lives now:");
        }
        let ending = self.core.finish().expect("the books agree");
        for left in &ending.left {
            let _ = writeln!(console, "left: {} ({})", left.tag, left.object_type.name());
        }
        let sum = |of: fn(&kobj_core::Tally) -> u64| ending.balance.rows().map(|(_, tally)| of(&tally)).sum();
        Books {
            created: sum(|tally| tally.created),
            destroyed: sum(|tally| tally.destroyed),
            live: ending.balance.live(),
        }
    }
}

/// Makes and destroys them in the order of their making; names what is left.
pub(crate) fn run(console: &mut dyn Write) -> Books {
    let mut world = World::new();
    let at_boot = world.core.live();
    let mut alive: VecDeque<(Koid, RawHandle)> = VecDeque::with_capacity(ALIVE);
    for index in 0..OBJECTS {
        if alive.len() == ALIVE
            && let Some((guest, handle)) = alive.pop_front()
        {
            close(&mut world.core, guest, handle);
        }
        alive.push_back(world.make(index));
    }
    assert_eq!(world.core.live() as usize, at_boot as usize + ALIVE);
    if cfg!(feature = "plant-leak") {
        // A handle that nobody closes.
        let _ = alive.pop_front();
    }
    for (guest, handle) in alive {
        close(&mut world.core, guest, handle);
    }
    world.end(console, at_boot)
}

/// Sixteen hexadecimal digits.
fn name(index: usize) -> [u8; 16] {
    core::array::from_fn(|place| b"0123456789abcdef"[index >> (60 - 4 * place) & 15])
}

fn handle(core: &mut Core, process: Koid, call: Call<'_>) -> RawHandle {
    match core.call(Time(0), process, call) {
        Ok(CallAnswer::Handle(handle)) => handle,
        other => panic!("{call:?}: {other:?}"),
    }
}

fn close(core: &mut Core, process: Koid, handle: RawHandle) {
    core.call(Time(0), process, Call::Close { handle }).expect("a handle that is open");
}
