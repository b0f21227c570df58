//! The manager of one program, and what it tells its embedder.

use crate::census::Tracing;
use crate::handle::Typed;
use crate::lock::Hosted;
use crate::platform::{Linux, LinuxView};
use crate::process::Caller;
use crate::{Directory, Error, Handle, Job, Keeper, types};
use kobj_abi::section::{Access, Part};
use kobj_abi::{AskedRights, Era, Koid, ObjectType as ObjectTypes, RawHandle, Rights, TypeNumber};
use kobj_core::embed::{Mapped, Thread};
use kobj_core::image::Time;
use kobj_core::platform::ViewId;
use kobj_core::{
    Call, CallAnswer, Counted, CountedHandle, Effect, KillReason, Limits, ObjectType, SectionName, SectionRequest,
    TypeInfo, TypeKey, Unreachable,
};
use kobj_memory::{Held, Kept, RegisterError, Shared, Table};
use kobj_platform::fork::ForkMark;
use parking_lot::Mutex;
use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The object manager of this program. Clones are the same manager; it ends with the last of them and of all that came from
/// it. `Send` and `Sync`.
#[derive(Clone, Debug)]
pub struct Manager {
    pub(crate) inner: Arc<Inner>,
}

/// What all that comes from a manager shares.
#[derive(Debug)]
pub(crate) struct Inner {
    manager: kobj_core::embed::Manager<Hosted, Linux>,
    /// The handle table of the program itself.
    table: Shared<Table>,
    /// By which a forked child is told apart, before it waits for a lock that nobody there will open.
    mark: ForkMark,
    /// Whether it notes where and when handles are made.
    is_traced: bool,
    /// Where objects were made, frame by frame, while all of that is noted.
    backtraces: Option<Mutex<HashMap<Koid, Arc<Backtrace>>>>,
    /// Where views were mapped, by their serial numbers, while places are noted.
    views: Mutex<HashMap<u64, MappedView>>,
}

/// A view, as it was noted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MappedView {
    section: Koid,
    pub(crate) process: Koid,
    pub(crate) place: &'static Location<'static>,
}

/// What a program is told by its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A guest has ended: its handles are closed and its charges returned.
    Killed {
        /// Which process.
        process: Koid,
        /// Why.
        reason: KillReason,
    },
    /// A process named a handle that it does not have, in a job whose policy is to tell.
    BadHandle {
        /// Which process.
        process: Koid,
        /// The first number.
        handle: RawHandle,
        /// How often it named such a one since this event was last taken: one event tells of all.
        times: u32,
    },
}

/// How a manager is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Builder {
    seed: Option<u64>,
    tracing: Tracing,
}

impl Builder {
    /// The seed of the masks of handle tables and of the hash of names, for tests that are to run the same again; else it is
    /// random, and nobody's to know.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How much is noted of where objects and handles are made.
    #[must_use]
    pub const fn tracing(mut self, tracing: Tracing) -> Self {
        self.tracing = tracing;
        self
    }

    /// Makes the manager.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[track_caller]
    pub fn build(self) -> Result<Manager, Error> {
        let now = now();
        let era = next_era(now)?;
        let seed = self.seed.unwrap_or_else(random);
        let limits = Limits { seed, ..Limits::default() };
        let manager = kobj_core::embed::Manager::with_platform(now, era, limits, Linux::default())?;
        manager.with(|core| core.set_tracing(self.tracing != Tracing::Off));
        let is_traced = self.tracing != Tracing::Off;
        let mark = ForkMark::new().map_err(|_| Error::NoMemory {})?;
        let backtraces = (self.tracing == Tracing::Full).then(Mutex::default);
        let table = manager.table(manager.boot().process)?;
        Ok(Manager { inner: Arc::new(Inner { manager, table, mark, is_traced, backtraces, views: Mutex::default() }) })
    }
}

/// The last era that a manager of this process took.
static LAST_ERA: AtomicU32 = AtomicU32::new(0);

/// An era that no other manager of this process has: the second, or the last era + 1, whichever is more.
fn next_era(now: Time) -> Result<Era, Error> {
    let second = u32::try_from(now.0 / 1_000_000).unwrap_or(u32::MAX);
    // Relaxed: the number alone is shared.
    let last =
        LAST_ERA.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(second.max(last.checked_add(1)?)));
    let last = last.map_err(|_| Error::EraExhausted {})?;
    Ok(Era(second.max(last + 1)))
}

/// A number that nobody can foretell: the standard library's hash keys, which the operating system seeds.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// Microseconds since 1970.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.mark.is_child() {
            self.manager.abandon();
        }
    }
}

impl Inner {
    pub(crate) fn end(&self) {
        if !self.mark.is_child() {
            self.manager.end();
        }
    }

    /// Refuses a forked child.
    #[inline]
    pub(crate) fn is_own_process(&self) -> Result<(), Error> {
        if self.mark.is_child() { Err(Error::Forked {}) } else { Ok(()) }
    }

    #[track_caller]
    pub(crate) fn call(&self, process: Koid, call: Call<'_>) -> Result<CallAnswer, Error> {
        self.is_own_process()?;
        // Reading the clock costs as much as a handle: only what is made or traced notes the time.
        let time = if call.makes_an_object() || self.is_traced { now() } else { Time(0) };
        let answer = self.manager.call(time, process, call);
        match (&call, &answer) {
            (Call::Create { .. } | Call::CreateJob { .. }, Ok(CallAnswer::Handle(handle)))
            | (_, Ok(CallAnswer::Guest { handle, .. } | CallAnswer::Opened { handle, created: true })) => {
                self.note_frames(process, *handle);
            }
            _ => {}
        }
        answer
    }

    /// Closes a handle that may be gone already: that is not its process's mistake.
    pub(crate) fn give_up(&self, process: Koid, handle: RawHandle) {
        if self.mark.is_child() {
            return;
        }
        let _gone_already = self.manager.give_up(process, handle);
    }

    /// Notes the frames of the caller, unresolved: names are looked up when they are printed.
    fn note_frames(&self, process: Koid, handle: RawHandle) {
        let Some(backtraces) = &self.backtraces else { return };
        if let Ok(CallAnswer::Info(info)) = self.manager.call(now(), process, Call::HandleInfo { handle }) {
            backtraces.lock().insert(info.koid, Arc::new(Backtrace::force_capture()));
        }
    }

    /// Notes where a view was mapped, while places are noted.
    #[track_caller]
    pub(crate) fn note_view(&self, process: Koid, handle: RawHandle, view: ViewId) {
        if !self.is_traced {
            return;
        }
        let place = Location::caller();
        if let Ok(CallAnswer::Info(info)) = self.manager.call(Time(0), process, Call::HandleInfo { handle }) {
            self.views.lock().insert(view.serial(), MappedView { section: info.koid, process, place });
        }
    }

    /// The views of a section that living processes have, where their mapping was noted.
    pub(crate) fn views(&self, is_living: impl Fn(&Koid) -> bool, section: Koid) -> Vec<MappedView> {
        let mut views: Vec<(u64, MappedView)> =
            self.views.lock().iter().map(|(serial, view)| (*serial, *view)).collect();
        views.retain(|(_, view)| view.section == section && is_living(&view.process));
        views.sort_by_key(|(serial, _)| *serial);
        views.into_iter().map(|(_, view)| view).collect()
    }

    /// Who keeps an object, directly, and how many views of it there are.
    pub(crate) fn kept_by(&self, koid: Koid) -> Result<(Vec<Keeper>, u32), Error> {
        self.is_own_process()?;
        self.manager.with(|core| core.kept_by(koid))
    }

    /// The frames in which an object was made; those of objects that are no more are forgotten.
    pub(crate) fn frames(&self, is_living: impl Fn(&Koid) -> bool, koid: Koid) -> Option<Arc<Backtrace>> {
        let mut backtraces = self.backtraces.as_ref()?.lock();
        backtraces.retain(|koid, _| is_living(koid));
        backtraces.get(&koid).cloned()
    }

    #[track_caller]
    pub(crate) fn transfer(
        &self,
        process: Koid,
        handle: RawHandle,
        receiver: Koid,
        rights: AskedRights,
    ) -> Result<RawHandle, Error> {
        self.is_own_process()?;
        let time = if self.is_traced { now() } else { Time(0) };
        self.manager.transfer(time, process, handle, receiver, rights)
    }

    #[inline]
    #[track_caller]
    pub(crate) fn create_section(&self, process: Koid, request: SectionRequest) -> Result<RawHandle, Error> {
        self.is_own_process()?;
        let handle = self.manager.create_section(now(), process, request)?;
        self.note_frames(process, handle);
        Ok(handle)
    }

    #[track_caller]
    pub(crate) fn open_or_create_section(
        &self,
        process: Koid,
        name: SectionName<'_>,
        request: SectionRequest,
    ) -> Result<(RawHandle, bool), Error> {
        self.is_own_process()?;
        let (handle, is_new) = self.manager.open_or_create_section(now(), process, name, request)?;
        if is_new {
            self.note_frames(process, handle);
        }
        Ok((handle, is_new))
    }

    #[inline]
    #[track_caller]
    pub(crate) fn map(
        &self,
        process: Koid,
        handle: RawHandle,
        part: Part,
        access: Access,
    ) -> Result<Mapped<LinuxView>, Error> {
        self.is_own_process()?;
        self.manager.map(process, handle, part, access)
    }

    #[inline]
    pub(crate) fn unmap(&self, view: ViewId) {
        if self.mark.is_child() {
            return;
        }
        self.manager.unmap(view);
        if self.is_traced {
            self.views.lock().remove(&view.serial());
        }
    }

    #[track_caller]
    pub(crate) fn table(&self, process: Koid) -> Result<Shared<Table>, Error> {
        self.is_own_process()?;
        self.manager.table(process)
    }

    #[track_caller]
    pub(crate) fn look<'a>(
        &'a self,
        process: Koid,
        table: &'a Table,
        handle: RawHandle,
        needed: Rights,
    ) -> Result<Held<'a>, Error> {
        self.is_own_process()?;
        self.manager.lookup(process, table, handle, None, needed)?.hold()
    }

    #[track_caller]
    pub(crate) fn create_own<T: ObjectType>(
        &self,
        process: Koid,
        key: &TypeKey<T>,
        state: T::State,
    ) -> Result<RawHandle, Error> {
        self.is_own_process()?;
        let handle = self.manager.create_own(now(), process, key, state)?;
        self.note_frames(process, handle);
        Ok(handle)
    }

    /// The number of the type that a handle is to mean.
    #[track_caller]
    pub(crate) fn expected<T: Typed>(&self) -> Result<Option<TypeNumber>, Error> {
        self.is_own_process()?;
        let Some(letters) = T::LETTERS else { return Ok(None) };
        let number =
            ObjectTypes::ALL.into_iter().find(|built_in| built_in.letters() == letters).map(ObjectTypes::number);
        let number = number.or_else(|| self.manager.with(|core| core.type_number_of(letters)));
        number.map(Some).ok_or(Error::NotRegistered { letters })
    }

    pub(crate) fn keep(&self, process: Koid, table: &Table, handle: RawHandle) -> Result<Kept, Error> {
        self.is_own_process()?;
        self.manager.lookup(process, table, handle, None, Rights::NONE)?.keep()
    }

    pub(crate) fn thread<T: ObjectType>(
        &self,
        process: Koid,
        key: &TypeKey<T>,
    ) -> Result<Thread<'_, Hosted, Linux, T>, Error> {
        self.is_own_process()?;
        self.manager.thread(process, key)
    }

    pub(crate) fn counted(&self) -> Result<Vec<Counted>, Error> {
        self.is_own_process()?;
        self.manager.with(|core| core.census()).map_err(|_| Error::NoMemory {})
    }

    pub(crate) fn handles_of(&self, koid: Koid) -> Result<Vec<CountedHandle>, Error> {
        self.is_own_process()?;
        self.manager.with(|core| core.handles_of(koid)).map_err(|_| Error::NoMemory {})
    }

    pub(crate) fn type_name(&self, number: TypeNumber) -> String {
        let info = self.manager.with(|core| core.type_info(number));
        info.map_or_else(|| format!("type {}", number.0), |info| info.name.to_owned())
    }

    pub(crate) fn excuse(&self, koid: Koid) -> Result<(), Error> {
        self.is_own_process()?;
        self.manager.with(|core| core.excuse(koid)).map_err(|_| Error::NoMemory {})
    }

    #[track_caller]
    pub(crate) fn type_object(&self, process: Koid, handle: RawHandle) -> Result<TypeInfo, Error> {
        self.is_own_process()?;
        self.manager.type_object(process, handle)
    }

    pub(crate) fn settle(&self) {
        if self.mark.is_child() {
            return;
        }
        while self.manager.go_on() {}
    }
}

impl Manager {
    /// Ends all that is in it: guests, names, objects; hooks run, states are dropped. What handles are left are refused from
    /// then on. The last of its clones, and of all that came from it, does this when it goes; a program whose objects' states
    /// have handles of the same manager, which would keep it alive for ever, asks for it.
    pub fn end(&self) {
        self.inner.end();
    }

    /// A manager inside this process.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[track_caller]
    pub fn embedded() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Options for [`Manager::embedded`].
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The program itself, as a process of the manager. It has full handles to the root job and the root directory.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let boot = self.inner.manager.boot();
        Caller::with_table(self.inner.clone(), boot.process, self.inner.table.clone())
    }

    /// The root job, in which all others are. Dropping it closes nothing: it ends with the manager.
    #[must_use]
    pub fn root_job(&self) -> Job {
        Handle::borrowed(self.caller(), self.inner.manager.boot().job)
    }

    /// The root directory, to be given to guests as a start of their paths. Dropping it closes nothing.
    #[must_use]
    pub fn root_directory(&self) -> Directory {
        Handle::borrowed(self.caller(), self.inner.manager.boot().directory)
    }

    /// A handle to any object by its id, with all that its type can do: the embedder's own act, past all rights. So a job or a
    /// guest is ended that nobody has a handle to any more: `manager.open::<types::Job>(koid)?.kill()`. Ids are in a
    /// [`Census`](crate::Census), in [`Event`] and below `jobs` of [`Manager::system_directory`].
    ///
    /// # Errors
    /// [`Error::Dying`] if there is no such object, or no longer; [`Error::UnexpectedType`], [`Error::Quota`],
    /// [`Error::NoMemory`].
    #[track_caller]
    pub fn open<T: Typed>(&self, koid: Koid) -> Result<Handle<T>, Error> {
        self.inner.is_own_process()?;
        let caller = self.caller();
        let raw = self.inner.manager.grant(caller.koid(), koid, AskedRights::Same)?;
        let handle: Handle<types::Any> = Handle::owned(caller, raw);
        Ok(handle.into_typed()?)
    }

    /// The system directory, made when it is first asked for: in it `types`, with an object for each type, `jobs`, with the
    /// living jobs by their koids, what is in a job below it (`jobs/KOID/KOID`), and `host`, with the host objects by their kinds
    /// (`host/segments/KOID`): a program's own manager has none. Nothing is named in these, and what is opened there can be looked at, listed and passed on. What is made for it is charged to the root job. NT: `\ObjectTypes`.
    ///
    /// # Errors
    /// [`Error::Quota`], [`Error::NoMemory`].
    #[track_caller]
    pub fn system_directory(&self) -> Result<Directory, Error> {
        self.inner.is_own_process()?;
        let caller = self.caller();
        let handle = self.inner.manager.system_directory(now(), caller.koid())?;
        Ok(Handle::owned(caller, handle))
    }

    /// Registers a type of one's own with this manager.
    ///
    /// # Errors
    /// [`RegisterError`]: its letters are taken or mark what is no object, no number is left, no memory; or this is a forked
    /// child, which has no part in it.
    #[track_caller]
    pub fn register<T: ObjectType>(&self) -> Result<TypeKey<T>, RegisterError> {
        if self.inner.mark.is_child() {
            return Err(RegisterError::Forked);
        }
        self.inner.manager.register()
    }

    /// Every type, built-in and registered, with its books.
    #[must_use]
    pub fn types(&self) -> Vec<TypeInfo> {
        if self.inner.mark.is_child() {
            return Vec::new();
        }
        self.inner.manager.with(|core| core.types().collect())
    }

    /// Objects that live by each other's references alone, each with the circle that keeps it: what nobody could reach when
    /// this was called. Others go on meanwhile.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn unreachable(&self) -> Result<Vec<Unreachable>, Error> {
        self.inner.is_own_process()?;
        Ok(self.inner.manager.unreachable()?.found().to_vec())
    }

    /// Does what is left over of ended jobs and guests: calls do it piece by piece, this until nothing is left.
    pub fn settle(&self) {
        self.inner.settle();
    }

    /// The next thing that the program is to know, and was not told yet. What a guest runs is the program's to stop.
    #[must_use]
    pub fn next_event(&self) -> Option<Event> {
        self.inner.is_own_process().ok()?;
        loop {
            // Host objects and their processes are `kobj run`'s; nobody makes them here.
            let event = match self.inner.manager.next_effect()? {
                Effect::Killed { koid, reason } => Some(Event::Killed { process: koid, reason }),
                Effect::BadHandle { process, handle, times } => Some(Event::BadHandle { process, handle, times }),
                _ => None,
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// How many objects of a type live, the manager's own (root job, root directory, the program) included; none in a
    /// forked child.
    #[must_use]
    pub fn live<T: ObjectType>(&self) -> u64 {
        if self.inner.mark.is_child() {
            return 0;
        }
        let info =
            self.inner.manager.with(|core| core.type_number_of(T::TAG).and_then(|number| core.type_info(number)));
        info.map_or(0, |info| info.tally.live)
    }

    /// Compares all books with what is there. A forked child has none.
    ///
    /// # Errors
    /// What disagrees: always a mistake in the manager, never in its use.
    #[track_caller]
    pub fn audit(&self) -> Result<(), kobj_core::Imbalance> {
        if self.inner.mark.is_child() {
            return Ok(());
        }
        self.inner.manager.with(|core| core.audit())
    }
}
