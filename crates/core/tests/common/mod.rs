//! What several tests of the calls share: a manager with the embedder's process and two guests.
#![allow(dead_code, reason = "each test takes what it needs")]

use kobj_abi::{AskedRights, Era, ErrorCode, Koid, ObjectType, RawHandle};
use kobj_core::image::Time;
use kobj_core::{Boot, Call, CallAnswer, CallError, Core, HandleInfo, Limits, What};

/// A manager with the embedder's process and two guests in a job of their own.
pub(crate) struct Scene {
    pub(crate) core: Core,
    pub(crate) boot: Boot,
    pub(crate) job: RawHandle,
    pub(crate) guests: [(RawHandle, Koid); 2],
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits { seed: 1, ..Limits::default() })
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        let mut core = Core::with_limits(Era(7), limits);
        let boot = core.boot(Time(0)).unwrap();
        let CallAnswer::Handle(job) = core.call(Time(0), boot.process, Call::CreateJob { job: boot.job }).unwrap()
        else {
            panic!("no job")
        };
        let mut guest = || match core.call(Time(0), boot.process, Call::CreateGuest { job, inherit: false }) {
            Ok(CallAnswer::Guest { handle, process }) => (handle, process),
            other => panic!("{other:?}"),
        };
        let guests = [guest(), guest()];
        Self { core, boot, job, guests }
    }

    pub(crate) fn call(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        let answer = self.core.call(Time(0), process, call);
        self.core.audit().unwrap_or_else(|imbalance| panic!("{call:?}: {imbalance}"));
        answer
    }

    pub(crate) fn handle(&mut self, process: Koid, call: Call<'_>) -> RawHandle {
        match self.call(process, call) {
            Ok(CallAnswer::Handle(handle)) => handle,
            other => panic!("{call:?}: {other:?}"),
        }
    }

    pub(crate) fn info(&mut self, process: Koid, handle: RawHandle) -> Result<HandleInfo, CallError> {
        match self.call(process, Call::HandleInfo { handle })? {
            CallAnswer::Info(info) => Ok(info),
            other => panic!("{other:?}"),
        }
    }

    /// A handle in the embedder's table to a new directory.
    pub(crate) fn directory(&mut self) -> RawHandle {
        self.handle(self.boot.process, Call::Create { what: What::Directory })
    }

    /// Moves a handle from one guest to another.
    pub(crate) fn pass(&mut self, from: Koid, handle: RawHandle, to: Koid) -> RawHandle {
        let process = self.core.grant(from, to, SAME).unwrap();
        let passed = self.handle(from, Call::Transfer { handle, process, rights: SAME });
        self.call(from, Call::Close { handle: process }).unwrap();
        passed
    }

    /// A handle in the embedder's table to its own process.
    pub(crate) fn handle_to_me(&mut self) -> RawHandle {
        self.core.grant(self.boot.process, self.boot.process, SAME).unwrap()
    }

    pub(crate) fn live(&self, object_type: ObjectType) -> u64 {
        self.core.balance().of(object_type).live
    }

    pub(crate) fn settle(&mut self) {
        while self.core.go_on() {}
        self.core.audit().unwrap();
    }

    pub(crate) fn end(mut self) {
        self.core.shut_down();
        while self.core.next_effect().is_some() {}
        let ending = self.core.finish().unwrap();
        assert!(ending.is_zero(), "{:?}", ending.left);
    }
}

pub(crate) fn code<T: core::fmt::Debug>(refused: Result<T, CallError>) -> ErrorCode {
    refused.unwrap_err().code()
}

pub(crate) const SAME: AskedRights = AskedRights::Same;
