//! The embedded manager as a subject.

use crate::subject::{Start, Subject};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::{iter, mem};
use kobj_abi::section::{Access, Part, ViewError};
use kobj_abi::{AskedRights, Era, Koid, RawHandle, Rights};
use kobj_core::image::Time;
use kobj_core::platform::{Heap, Platform, View, ViewId};
use kobj_core::{
    Boot, Call, CallAnswer, CallError, Core, Effect, Limits, Release, Resource, SectionRequest as Request,
};

/// The core, asked until none of the work is left over that a call began.
#[derive(Debug)]
pub struct Embedded {
    core: Core,
    now: Time,
    first: Koid,
    heap: Heap,
    killed: Vec<Koid>,
    bad_handles: Vec<(Koid, RawHandle)>,
}

/// Bytes that there are for sections.
const SECTION_BYTES_MOST: u64 = 1 << 22;

impl Embedded {
    /// Does what is left to be done, and gives back to the platform what has ended.
    fn settle(&mut self) {
        while self.core.go_on() {}
        while let Some(release) = self.core.next_release() {
            match release {
                Release::Unmap(view) => self.heap.unmap(view),
                Release::Destroy(section) => self.heap.destroy_memory(section),
            }
        }
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Killed { koid, .. } => self.killed.push(koid),
                Effect::BadHandle { process, handle } => self.bad_handles.push((process, handle)),
                _ => {}
            }
        }
    }
}

/// A view, and how its bytes are got at.
#[derive(Debug)]
pub struct Mapped {
    id: ViewId,
    view: <Heap as Platform>::View,
}

impl Subject for Embedded {
    /// Units of left-over work in one step: with few of them every bounded step is seen to stop and go on.
    type Options = u32;

    type View = Mapped;

    fn start(work_per_step: u32) -> Result<(Self, Start), CallError> {
        let limits = Limits { work_per_step, seed: 0x6b6f_626a, ..Limits::default() };
        let mut core = Core::try_with_limits(Era(7), limits).map_err(|_| CallError::NoMemory {})?;
        let Boot { root_job, process, job, directory } = core.boot(Time(0))?;
        let heap = Heap::new(SECTION_BYTES_MOST);
        let (killed, bad_handles) = (Vec::new(), Vec::new());
        let subject = Self { core, now: Time(0), first: process, heap, killed, bad_handles };
        Ok((subject, Start { root_job, process, job, directory }))
    }

    fn call(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.now.0 += 1;
        let mut result = self.core.call(self.now, process, call);
        while result == Ok(CallAnswer::GoOn) {
            result = self.core.call(self.now, process, call);
        }
        self.settle();
        result
    }

    fn live(&self) -> u64 {
        self.core.live().into()
    }

    fn handles(&self, process: Koid) -> u64 {
        let mut from = 0;
        let next = || {
            let (_, next) = self.core.handle_from(process, from)?;
            from = next;
            Some(())
        };
        iter::from_fn(next).count() as u64
    }

    fn limit(&mut self, owner: Koid, resource: Resource, limit: u64) {
        let handle = self.core.grant(self.first, owner, AskedRights::Exactly(Rights::MANAGE));
        if let Ok(handle) = handle {
            // A limit that is not set is seen by the row.
            let _set = self.call(self.first, Call::SetQuota { handle, resource, limit });
            let _closed = self.call(self.first, Call::Close { handle });
        }
    }

    fn create_section(&mut self, process: Koid, size_bytes: u64) -> Result<RawHandle, CallError> {
        let room = self.heap.take_room(size_bytes);
        let opening = self.core.begin_section(self.now, process, Request { size_bytes, lazy: false }, room)?;
        let koid = opening.koid();
        let made = self.heap.create_memory(koid, size_bytes, false);
        let finished = self.core.finish_section(opening, made);
        if made.is_ok() && finished.is_err() {
            self.heap.destroy_memory(koid);
        }
        self.settle();
        finished
    }

    fn map(&mut self, process: Koid, handle: RawHandle, part: Part, access: Access) -> Result<Mapped, CallError> {
        let mapping = self.core.begin_map(process, handle, part, access)?;
        let id = mapping.view();
        let view = self.heap.map(mapping.section(), id, part, access);
        let finished = self.core.finish_map(mapping, view.as_ref().map(drop).map_err(|error| *error));
        let result = match (view, finished) {
            (Ok(view), Ok(id)) => Ok(Mapped { id, view }),
            (Ok(_), Err(error)) => {
                self.heap.unmap(id);
                Err(error)
            }
            (Err(error), _) => Err(error.into()),
        };
        self.settle();
        result
    }

    fn unmap(&mut self, view: &Mapped) {
        self.heap.unmap(view.id);
        self.core.end_view(view.id);
        self.settle();
    }

    fn read(&self, view: &Mapped, offset_bytes: u64, into: &mut [u8]) -> Result<(), ViewError> {
        view.view.read(offset_bytes, into)
    }

    fn write(&self, view: &Mapped, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError> {
        view.view.write(offset_bytes, from)
    }

    fn memories(&self) -> (usize, usize) {
        self.heap.counts()
    }

    fn bad_handles(&mut self) -> Vec<(Koid, RawHandle)> {
        mem::take(&mut self.bad_handles)
    }

    fn killed(&mut self) -> Vec<Koid> {
        mem::take(&mut self.killed)
    }

    fn end(mut self) -> Result<(), String> {
        self.core.audit().map_err(|imbalance| format!("{imbalance}"))?;
        self.core.shut_down();
        self.settle();
        let memories = self.heap.counts();
        let ending = self.core.finish().map_err(|imbalance| format!("{imbalance}"))?;
        if ending.is_zero() && memories == (0, 0) {
            Ok(())
        } else {
            Err(format!("left: {:?}, {memories:?}", ending.left))
        }
    }
}
