//! The manager that threads share: one core under one lock, and what needs no lock beside it.
//!
//! Embedded it is used by the threads of one process, in the daemon by one thread. The lock is a parameter: one that sleeps
//! where there is an operating system, one that spins on bare metal. Nothing of the embedder's runs under it.

mod lookup;
#[cfg(all(test, loom))]
mod models;
mod pieces;
mod sections;
mod thread;

pub use lookup::Guard;
pub use sections::Mapped;
pub use thread::Thread;

use crate::call::{Call, CallAnswer, CallError};
use crate::command::Effect;
use crate::guests::Boot;
use crate::image::Time;
use crate::manager::{Core, Limits};
use crate::platform::{Heap, Platform};
use crate::system::SYSTEM_DIRECTORY_RIGHTS;
use crate::trace::{How, Trace};
use crate::unreachable::Search;
use crate::user_type::{ObjectType, Refused, TypeInfo, TypeKey, run_due_hook, tell};
use core::panic::Location;
#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
use kobj_abi::{AskedRights, Era, Koid, RawHandle};
use kobj_memory::{Lock, Locked, Objects, RegisterError, Shared};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

/// The object manager, for threads: all of it takes `&self`.
///
/// Dropped, it ends all that is left ([`Manager::end`]).
pub struct Manager<L: Lock, P: Platform = Heap> {
    core: L::Around<Core>,
    objects: Shared<Objects>,
    boot: Boot,
    platform: P,
    /// Who runs hooks at this moment: threads, and hooks within hooks.
    runners: AtomicU32,
    /// Whether its drop does nothing: seen by that alone, so relaxed.
    is_abandoned: core::sync::atomic::AtomicBool,
}

// Models end what they made by themselves.
#[cfg(not(loom))]
impl<L: Lock, P: Platform> Drop for Manager<L, P> {
    fn drop(&mut self) {
        if !*self.is_abandoned.get_mut() {
            self.end();
        }
    }
}

/// Those who run hooks at once, at most. A hook, or the end of a state, may call the manager, which runs what is due then; past
/// this many the rest is left to those who are at it, so that a chain of states that end each other needs no deep stack. Models
/// have few threads.
const RUNNERS_MOST: u32 = if cfg!(loom) { 1 } else { 32 };

/// One who runs hooks, also while a hook unwinds.
struct Runner<'a>(&'a AtomicU32);

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<L: Lock, P: Platform> core::fmt::Debug for Manager<L, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Manager").field("boot", &self.boot).finish_non_exhaustive()
    }
}

impl<L: Lock> Manager<L> {
    /// A manager without memory for sections; else as [`Manager::with_platform`].
    ///
    /// # Errors
    /// [`CallError::NoMemory`].
    pub fn new(now: Time, era: Era, limits: Limits) -> Result<Self, CallError> {
        Self::with_platform(now, era, limits, Heap::default())
    }
}

impl<L: Lock, P: Platform> Manager<L, P> {
    /// A manager with its root job, the embedder's process and the root directory. The caller has claimed the era, so that
    /// no other manager of its domain has it; `limits.seed` is random in the field.
    ///
    /// # Errors
    /// [`CallError::NoMemory`].
    pub fn with_platform(now: Time, era: Era, limits: Limits, platform: P) -> Result<Self, CallError> {
        let mut core = Core::try_with_limits(era, limits).map_err(|_| CallError::NoMemory {})?;
        let boot = core.boot(now)?;
        let objects = core.slab.shared();
        Ok(Self {
            core: L::Around::new(core),
            objects,
            boot,
            platform,
            runners: AtomicU32::new(0),
            is_abandoned: false.into(),
        })
    }

    /// What it began with.
    #[must_use]
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// Does what a process asks for by its handles. While tracing is on, the place in the source where this is called is noted.
    ///
    /// # Errors
    /// [`CallError`]; then nothing changed.
    #[track_caller]
    pub fn call(&self, now: Time, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        let place = Location::caller();
        // The answer is made where the caller wants it: each copy would wait for the one before to be written.
        match call {
            Call::Revoke { .. }
            | Call::CreateGuest { inherit: true, .. }
            | Call::Holders { .. }
            | Call::KeptBy { .. }
            | Call::DerivedFrom { .. } => self.call_in_pieces(now, process, &call, place),
            _ => self.with(|core| core.call_by(now, process, &call, place)),
        }
    }

    /// Closes a handle for the wrapper that has it; one that is gone is no bad handle: see [`Core::give_up`].
    pub fn give_up(&self, process: Koid, handle: RawHandle) -> bool {
        self.with(|core| core.give_up(process, handle))
    }

    /// Registers a user's type.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing changed.
    pub fn register<T: ObjectType>(&self) -> Result<TypeKey<T>, RegisterError> {
        self.core.with(Core::register)
    }

    /// Makes an unnamed object of a user's type.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::Refused`] by the type's create hook. Nothing changed, and the state is dropped.
    #[track_caller]
    pub fn create_own<T: ObjectType>(
        &self,
        now: Time,
        process: Koid,
        key: &TypeKey<T>,
        state: T::State,
    ) -> Result<RawHandle, CallError> {
        T::create(&state).map_err(|Refused| CallError::Refused { number: key.number() })?;
        let place = Location::caller();
        // What is not made is dropped out here: its drop may call the manager.
        let mut state = Some(state);
        self.with(|core| {
            let made = core.create_own_from(now, process, key, &mut state)?;
            core.note(process, made, Trace { place, at: now, how: How::Created });
            Ok(made)
        })
    }

    /// Gives a guest a handle to the system directory ([`Core::system_directory`]), with [`SYSTEM_DIRECTORY_RIGHTS`]: made when
    /// it is first asked for. The embedder's own act.
    ///
    /// # Errors
    /// [`CallError`]; then the guest has no handle.
    pub fn system_directory(&self, now: Time, process: Koid) -> Result<RawHandle, CallError> {
        self.with(|core| {
            let directory = core.system_directory(now)?;
            core.grant(process, directory, AskedRights::Exactly(SYSTEM_DIRECTORY_RIGHTS))
        })
    }

    /// What a process is told of a type by a handle to its object; see [`Core::type_object`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn type_object(&self, process: Koid, handle: RawHandle) -> Result<TypeInfo, CallError> {
        self.with(|core| core.type_object(process, handle))
    }

    /// Gives a guest a handle to any object: the embedder's own act, past all rights.
    ///
    /// # Errors
    /// [`CallError`]; then nothing changed.
    pub fn grant(&self, process: Koid, object: Koid, rights: AskedRights) -> Result<RawHandle, CallError> {
        self.with(|core| core.grant(process, object, rights))
    }

    /// Moves a handle of a guest to another one: the embedder's own act, who needs no handle to the receiver; else as
    /// [`Call::Transfer`]. The handle's number is the receiver's then.
    ///
    /// # Errors
    /// [`CallError`]; then the handle is as it was.
    #[track_caller]
    pub fn transfer(
        &self,
        now: Time,
        process: Koid,
        handle: RawHandle,
        receiver: Koid,
        rights: AskedRights,
    ) -> Result<RawHandle, CallError> {
        let place = Location::caller();
        self.with(|core| {
            let moved = core.transfer(process, handle, receiver, rights)?;
            core.note(receiver, moved, Trace { place, at: now, how: How::Transferred });
            Ok(moved)
        })
    }

    /// Ends all that is here: the root job with all in it. Guests are ended, names go, hooks run, states are dropped, memory of
    /// sections is given back. What somebody has a handle to is refused from then on. Done by the drop, too, and again it does
    /// nothing.
    ///
    /// A state that keeps another object keeps the objects' memory too: only an end like this one frees both.
    pub fn end(&self) {
        self.with(Core::shut_down);
        while self.go_on() {}
    }

    /// Its drop will do nothing: for a forked child, whose locks nobody opens and whose memory goes with it.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, core::sync::atomic::Ordering::Relaxed);
    }

    /// Does one step's worth of left-over work; `true` while there is more.
    pub fn go_on(&self) -> bool {
        self.with(Core::go_on)
    }

    /// What nobody can reach: see [`crate::Search`]. Others go on meanwhile.
    ///
    /// # Errors
    /// [`CallError::NoMemory`].
    pub fn unreachable(&self) -> Result<Search, CallError> {
        let mut search = self.with(|core| core.begin_search()).map_err(|_| CallError::NoMemory {})?;
        // Its memory is as large as the manager is: nobody waits for it.
        search.prepare().map_err(|_| CallError::NoMemory {})?;
        while !self.with(|core| core.search(&mut search, 256)).map_err(|_| CallError::NoMemory {})? {}
        Ok(search)
    }

    /// What the embedder is to do or to know, one at a time.
    pub fn next_effect(&self) -> Option<Effect> {
        self.core.with(Core::next_effect)
    }

    /// Looks at the core, or does a step that has no method here. Nothing else is done by anybody meanwhile.
    pub fn with<R>(&self, action: impl FnOnce(&mut Core) -> R) -> R {
        let (mut release, mut are_there_more, mut is_told) = (None, false, false);
        let result = self.core.with(|core| {
            let result = action(core);
            if core.has_releases() {
                release = core.next_release();
                are_there_more = core.has_releases();
            }
            is_told = core.has_notices();
            result
        });
        if release.is_some() {
            self.release(release, are_there_more);
        }
        if is_told || self.objects.has_due_hooks() {
            self.run_hooks();
        }
        result
    }

    /// Runs the hooks that are due, outside the lock, and what comes of them. A hook may call the manager.
    ///
    /// Everybody looks at the lists again after it has counted itself off, and leaves what it finds there only to those who are
    /// counted then, and look again later than it (all in one order, SeqCst): so nothing that was left is missed.
    fn run_hooks(&self) {
        loop {
            let others = self.runners.fetch_add(1, Ordering::SeqCst);
            let runner = Runner(&self.runners);
            let may_run = others < RUNNERS_MOST;
            while may_run && self.run_next_hook() {
                while self.core.with(Core::go_on) {}
                self.release(self.core.with(Core::next_release), true);
            }
            drop(runner);
            if !self.objects.has_due_hooks() && !self.core.with(|core| core.has_notices()) {
                return;
            }
            // Not by `others`: those may have been about to leave too, each for the other.
            if !may_run && self.runners.fetch_add(0, Ordering::SeqCst) >= RUNNERS_MOST {
                return;
            }
        }
    }

    /// Whoever comes by runs it, and what he came for may be done already: a panic is caught where it can be.
    fn run_next_hook(&self) -> bool {
        // One that panics was one.
        let mut was_due = true;
        self.platform.run_hook(&mut || {
            was_due =
                self.tell_next() || run_due_hook(&self.objects, |number| self.core.with(|core| core.hooks_of(number)));
        });
        was_due
    }

    /// Tells a type of a handle that came or went; `false` if nothing is to be told.
    fn tell_next(&self) -> bool {
        let next = self.core.with(|core| {
            let notice = core.next_notice()?;
            Some((notice, core.hooks_of(notice.number())))
        });
        let Some((notice, hooks)) = next else { return false };
        tell(&self.objects, &notice, hooks, || self.core.with(|core| core.told(&notice)));
        true
    }
}
