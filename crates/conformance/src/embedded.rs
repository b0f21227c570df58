//! The embedded manager as a subject, under a lock that spins: it runs hosted and on bare metal.

use crate::subject::{Hook, Start, Subject};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{iter, mem};
use kobj_abi::section::{Access, Part, ViewError};
use kobj_abi::{AskedRights, Era, Koid, RawHandle, Rights, TypeNumber};
use kobj_core::embed::{Manager, Mapped};
use kobj_core::image::Time;
use kobj_core::platform::{Heap, Platform, View};
use kobj_core::{
    Boot, Call, CallAnswer, CallError, Core, Effect, Limits, ObjectType, Refused, Resource, SectionName,
    SectionRequest, TypeKey,
};
use kobj_memory::{Locked, Spin, SpinLock};

/// The manager, asked until none of the work is left over that a call began.
pub struct Embedded {
    manager: Manager<Spin, Heap>,
    told: TypeKey<Told>,
    log: Arc<Log>,
    now: Time,
    killed: Vec<Koid>,
    bad_handles: Vec<(Koid, RawHandle)>,
}

/// What the user's type was told.
type Log = SpinLock<Vec<(Hook, u64)>>;

/// A type from outside, which writes down what it is told.
struct Told {}

/// An object of it.
struct Number {
    number: u64,
    log: Arc<Log>,
}

impl Number {
    fn note(&self, hook: Hook) {
        self.log.with(|log| log.push((hook, self.number)));
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.note(Hook::Dropped);
    }
}

impl ObjectType for Told {
    const TAG: [u8; 4] = *b"TOLD";
    const NAME: &'static str = "told";
    const DEFAULT_RIGHTS: Rights = Rights::DUPLICATE
        .union(Rights::TRANSFER)
        .union(Rights::READ)
        .union(Rights::INSPECT)
        .union(Rights::MANAGE)
        .union(Rights::from_bits(1 << 16));
    type State = Number;

    fn create(state: &Number) -> Result<(), Refused> {
        if state.number == 0 { Err(Refused) } else { Ok(()) }
    }

    fn last_close(_koid: Koid, state: &Number) {
        state.note(Hook::LastClose);
    }

    fn destroy(_koid: Koid, state: &Number) {
        state.note(Hook::Destroy);
    }
}

/// Bytes that there are for sections.
const SECTION_BYTES_MOST: u64 = 1 << 22;

impl Embedded {
    /// Does what is left to be done, and hears what the embedder is told.
    fn settle(&mut self) {
        while self.manager.go_on() {}
        while let Some(effect) = self.manager.next_effect() {
            match effect {
                Effect::Killed { koid, .. } => self.killed.push(koid),
                Effect::BadHandle { process, handle, times } => {
                    self.bad_handles.extend((0..times).map(|_| (process, handle)));
                }
                _ => {}
            }
        }
    }

    /// What was done, after all that it left to be done.
    fn settled<T>(&mut self, result: Result<T, CallError>) -> Result<T, CallError> {
        self.settle();
        result
    }
}

impl Subject for Embedded {
    /// Units of left-over work in one step: with few of them every bounded step is seen to stop and go on.
    type Options = u32;

    type View = Mapped<<Heap as Platform>::View>;

    fn start(work_per_step: u32) -> Result<(Self, Start), CallError> {
        let limits = Limits { work_per_step, seed: 0x6b6f_626a, ..Limits::default() };
        let manager = Manager::with_platform(Time(0), Era(7), limits, Heap::new(SECTION_BYTES_MOST))?;
        let Boot { root_job, process, job, directory } = manager.boot();
        let told = manager.register::<Told>().map_err(|_| CallError::NoMemory {})?;
        let log = Arc::new(Log::new(Vec::new()));
        let subject = Self { manager, told, log, now: Time(0), killed: Vec::new(), bad_handles: Vec::new() };
        Ok((subject, Start { root_job, process, job, directory }))
    }

    fn call(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.now.0 += 1;
        let result = self.manager.call(self.now, process, call);
        self.settled(result)
    }

    fn give_up(&mut self, process: Koid, handle: RawHandle) -> bool {
        let was_there = self.manager.give_up(process, handle);
        self.settle();
        was_there
    }

    fn live(&self) -> u64 {
        self.manager.with(|core| core.live()).into()
    }

    fn handles(&self, process: Koid) -> u64 {
        let mut from = 0;
        let next = || {
            from = self.manager.with(|core| core.handle_from(process, from))?.1;
            Some(())
        };
        iter::from_fn(next).count() as u64
    }

    fn limit(&mut self, owner: Koid, resource: Resource, limit: u64) {
        let embedder = self.manager.boot().process;
        if let Ok(handle) = self.manager.grant(embedder, owner, AskedRights::Exactly(Rights::MANAGE)) {
            // A limit that is not set is seen by the row.
            let _set = self.call(embedder, Call::SetQuota { handle, resource, limit });
            let _closed = self.call(embedder, Call::Close { handle });
        }
    }

    fn create_section(&mut self, process: Koid, size_bytes: u64) -> Result<RawHandle, CallError> {
        let made = self.manager.create_section(self.now, process, SectionRequest { size_bytes, lazy: false });
        self.settled(made)
    }

    fn open_or_create_section(
        &mut self,
        process: Koid,
        directory: RawHandle,
        name: &[u8],
        size_bytes: u64,
        exclusive: bool,
    ) -> Result<(RawHandle, bool), CallError> {
        let name = SectionName { directory, name, rights: AskedRights::Same, exclusive };
        let request = SectionRequest { size_bytes, lazy: false };
        let made = self.manager.open_or_create_section(self.now, process, name, request);
        self.settled(made)
    }

    fn map(&mut self, process: Koid, handle: RawHandle, part: Part, access: Access) -> Result<Self::View, CallError> {
        let mapped = self.manager.map(process, handle, part, access);
        self.settled(mapped)
    }

    fn unmap(&mut self, view: &Self::View) {
        self.manager.unmap(view.id);
        self.settle();
    }

    fn read(&self, view: &Self::View, offset_bytes: u64, into: &mut [u8]) -> Result<(), ViewError> {
        view.view.read(offset_bytes, into)
    }

    fn write(&self, view: &Self::View, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError> {
        view.view.write(offset_bytes, from)
    }

    fn create_own(&mut self, process: Koid, number: u64) -> Result<RawHandle, CallError> {
        let state = Number { number, log: Arc::clone(&self.log) };
        let made = self.manager.create_own(self.now, process, &self.told, state);
        self.settled(made)
    }

    fn system_directory(&mut self, process: Koid) -> Result<RawHandle, CallError> {
        let given = self.manager.system_directory(self.now, process);
        self.settled(given)
    }

    fn own_type(&self) -> TypeNumber {
        self.told.number()
    }

    fn hooks(&mut self) -> Vec<(Hook, u64)> {
        self.settle();
        self.log.with(mem::take)
    }

    fn memories(&self) -> (usize, usize) {
        self.manager.platform().counts()
    }

    fn bad_handles(&mut self) -> Vec<(Koid, RawHandle)> {
        mem::take(&mut self.bad_handles)
    }

    fn killed(&mut self) -> Vec<Koid> {
        mem::take(&mut self.killed)
    }

    fn end(mut self) -> Result<(), String> {
        self.manager.with(|core| core.audit()).map_err(|imbalance| format!("{imbalance}"))?;
        self.manager.with(Core::shut_down);
        self.settle();
        let memories = self.memories();
        let core = self.manager.with(|core| mem::replace(core, Core::new(Era(8))));
        let ending = core.finish().map_err(|imbalance| format!("{imbalance}"))?;
        if ending.is_zero() && memories == (0, 0) {
            Ok(())
        } else {
            Err(format!("left: {:?}, memories and views {memories:?}", ending.left))
        }
    }
}
