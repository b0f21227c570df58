//! A subject under a row, and what rows check by.

use crate::calls;
use crate::subject::{Hook, Start, Subject};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::panic::Location;
use kobj_abi::section::{Access, Part, ViewError};
use kobj_abi::{ErrorCode, Koid, RawHandle, Rights, TypeNumber};
use kobj_core::{Call, CallAnswer, CallError, Entry, HandleInfo, Resource};

/// What was done otherwise than the rule says, and where the row asked.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a row went.
pub type Outcome = Result<(), Failure>;

/// A process that a row made, and its maker's handle to it.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// The maker's handle.
    pub handle: RawHandle,
    /// By which it calls.
    pub process: Koid,
}

/// A subject that has just begun, with the calls of one row.
pub struct World<S> {
    subject: S,
    /// The first guest.
    pub first: Koid,
    /// Its handle to the root job.
    pub job: RawHandle,
    /// Its handle to the root directory.
    pub root: RawHandle,
    /// The root job.
    pub root_job: Koid,
    guests: Vec<Koid>,
}

#[track_caller]
fn failure<T>(what: fmt::Arguments<'_>) -> Result<T, Failure> {
    let at = Location::caller();
    Err(Failure(format!("{}:{}: {what}", at.file(), at.line())))
}

/// Checks that two values are the same.
///
/// # Errors
/// Both, if not.
#[track_caller]
pub(crate) fn same<T: PartialEq + fmt::Debug>(found: T, expected: T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    failure(format_args!("found {found:?} where {expected:?} was expected"))
}

/// Checks that two values differ.
///
/// # Errors
/// The value, if not.
#[track_caller]
pub(crate) fn differ<T: PartialEq + fmt::Debug>(one: T, other: T) -> Outcome {
    if one != other {
        return Ok(());
    }
    failure(format_args!("found {one:?} twice"))
}

/// Checks that something holds.
///
/// # Errors
/// The words, if not.
#[track_caller]
pub(crate) fn holds(whether: bool, what: &str) -> Outcome {
    if whether { Ok(()) } else { failure(format_args!("it does not hold that {what}")) }
}

impl<S: Subject> World<S> {
    /// A subject that begins.
    pub(crate) fn start(options: S::Options) -> Result<Self, Failure> {
        let begun = S::start(options).map_err(|error| Failure(format!("it does not begin: {error}")));
        let (subject, start) = begun?;
        let Start { root_job, process: first, job, directory: root } = start;
        let guests = Vec::from([first]);
        Ok(Self { subject, first, job, root, root_job, guests })
    }

    /// Ends the subject: then its books must be even and nothing left.
    pub(crate) fn end(self) -> Outcome {
        self.subject.end().map_err(|left| Failure(format!("at the end: {left}")))
    }

    /// Does a call that must succeed.
    #[track_caller]
    pub fn does(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, Failure> {
        match self.subject.call(process, call) {
            Ok(answer) => Ok(answer),
            Err(error) => failure(format_args!("{call:?} of {process} was refused: {error:?}")),
        }
    }

    /// Does a call that must succeed and give nothing.
    #[track_caller]
    pub fn done(&mut self, process: Koid, call: Call<'_>) -> Outcome {
        match self.does(process, call)? {
            CallAnswer::Done => Ok(()),
            answer => failure(format_args!("{call:?} of {process} gave {answer:?}")),
        }
    }

    /// Does a call that must give a handle.
    #[track_caller]
    pub fn gives(&mut self, process: Koid, call: Call<'_>) -> Result<RawHandle, Failure> {
        match self.does(process, call)? {
            CallAnswer::Handle(handle) | CallAnswer::Opened { handle, .. } => Ok(handle),
            answer => failure(format_args!("{call:?} of {process} gave {answer:?}")),
        }
    }

    /// Does a call that opens or creates: the handle, and whether the object is new.
    #[track_caller]
    pub fn opened(&mut self, process: Koid, call: Call<'_>) -> Result<(RawHandle, bool), Failure> {
        match self.does(process, call)? {
            CallAnswer::Opened { handle, created } => Ok((handle, created)),
            answer => failure(format_args!("{call:?} of {process} gave {answer:?}")),
        }
    }

    /// Does a call, however it ends.
    pub fn tries(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.subject.call(process, call)
    }

    /// Does a call that must be refused, and nothing may have changed.
    #[track_caller]
    pub fn error(&mut self, process: Koid, call: Call<'_>) -> Result<CallError, Failure> {
        let before = self.books();
        match self.subject.call(process, call) {
            Ok(answer) => failure(format_args!("{call:?} of {process} gave {answer:?} and should be refused")),
            Err(error) if self.books() == before => Ok(error),
            Err(error) => {
                let after = self.books();
                failure(format_args!("{call:?} was refused ({error:?}), yet {before:?} became {after:?}"))
            }
        }
    }

    /// Does a call that must be refused with that code, and nothing may have changed.
    #[track_caller]
    pub fn refused(&mut self, process: Koid, call: Call<'_>, code: ErrorCode) -> Outcome {
        let error = self.error(process, call)?;
        if error.code() == code {
            return Ok(());
        }
        failure(format_args!("{call:?} of {process} was refused with {error:?}, not with {code:?}"))
    }

    /// Does a call that must be refused exactly so, and nothing may have changed.
    #[track_caller]
    pub fn refused_as(&mut self, process: Koid, call: Call<'_>, expected: CallError) -> Outcome {
        let error = self.error(process, call)?;
        if error == expected {
            return Ok(());
        }
        failure(format_args!("{call:?} of {process} was refused with {error:?}, not with {expected:?}"))
    }

    /// Objects that live, memories and views of sections, and handles of each process.
    fn books(&self) -> (u64, (usize, usize), Vec<u64>) {
        let handles = self.guests.iter().map(|guest| self.subject.handles(*guest)).collect();
        (self.subject.live(), self.subject.memories(), handles)
    }

    /// A new section without a name.
    #[track_caller]
    pub fn section(&mut self, process: Koid, size_bytes: u64) -> Result<RawHandle, Failure> {
        match self.subject.create_section(process, size_bytes) {
            Ok(handle) => Ok(handle),
            Err(error) => failure(format_args!("a section of {size_bytes} bytes was refused: {error:?}")),
        }
    }

    /// The section under a name, found or made, and whether it is new.
    #[track_caller]
    pub fn named_section(
        &mut self,
        process: Koid,
        directory: RawHandle,
        name: &[u8],
        size_bytes: u64,
    ) -> Result<(RawHandle, bool), Failure> {
        match self.subject.open_or_create_section(process, directory, name, size_bytes, false) {
            Ok(made) => Ok(made),
            Err(error) => failure(format_args!("a section of {size_bytes} bytes under a name was refused: {error:?}")),
        }
    }

    /// A section under a name that must be refused, whether or not it must be new, and nothing may have changed.
    #[track_caller]
    pub fn no_named_section(
        &mut self,
        process: Koid,
        (directory, name): (RawHandle, &[u8]),
        size_bytes: u64,
        exclusive: bool,
        code: ErrorCode,
    ) -> Outcome {
        let before = self.books();
        let made = self.subject.open_or_create_section(process, directory, name, size_bytes, exclusive);
        same(made.map_err(CallError::code), Err(code))?;
        same(self.books(), before)
    }

    /// A section that must be refused, and nothing may have changed.
    #[track_caller]
    pub fn no_section(&mut self, process: Koid, size_bytes: u64, code: ErrorCode) -> Outcome {
        let before = self.books();
        same(self.subject.create_section(process, size_bytes).map_err(CallError::code), Err(code))?;
        same(self.books(), before)
    }

    /// Maps a part of a section, however it ends.
    pub fn tries_to_map(
        &mut self,
        process: Koid,
        handle: RawHandle,
        (offset_bytes, size_bytes): (u64, u64),
        access: Access,
    ) -> Result<S::View, CallError> {
        self.subject.map(process, handle, Part { offset_bytes, size_bytes }, access)
    }

    /// Maps a part of a section.
    #[track_caller]
    pub fn map(
        &mut self,
        process: Koid,
        handle: RawHandle,
        part: (u64, u64),
        access: Access,
    ) -> Result<S::View, Failure> {
        match self.tries_to_map(process, handle, part, access) {
            Ok(view) => Ok(view),
            Err(error) => failure(format_args!("bytes {part:?} of {handle} were not mapped: {error:?}")),
        }
    }

    /// A part that must not be mapped, and nothing may have changed.
    #[track_caller]
    pub fn unmapped(
        &mut self,
        process: Koid,
        handle: RawHandle,
        part: (u64, u64),
        access: Access,
        code: ErrorCode,
    ) -> Outcome {
        let before = self.books();
        let mapped = self.tries_to_map(process, handle, part, access);
        same(mapped.map(drop).map_err(CallError::code), Err(code))?;
        same(self.books(), before)
    }

    /// Ends a view.
    pub fn unmap(&mut self, view: &S::View) {
        self.subject.unmap(view);
    }

    /// So many bytes of a view.
    pub fn read(&self, view: &S::View, offset_bytes: u64, length: usize) -> Result<Vec<u8>, ViewError> {
        let mut bytes = alloc::vec![0xee; length];
        self.subject.read(view, offset_bytes, &mut bytes).map(|()| bytes)
    }

    /// Writes bytes into a view.
    pub fn write(&self, view: &S::View, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError> {
        self.subject.write(view, offset_bytes, from)
    }

    /// A handle to the system directory, as an embedder gives it.
    #[track_caller]
    pub fn system(&mut self, process: Koid) -> Result<RawHandle, Failure> {
        match self.subject.system_directory(process) {
            Ok(handle) => Ok(handle),
            Err(error) => failure(format_args!("the system directory was refused: {error:?}")),
        }
    }

    /// A new object of the user's type.
    #[track_caller]
    pub fn own(&mut self, process: Koid, number: u64) -> Result<RawHandle, Failure> {
        match self.subject.create_own(process, number) {
            Ok(handle) => Ok(handle),
            Err(error) => failure(format_args!("object {number} of the user's type was refused: {error:?}")),
        }
    }

    /// An object of the user's type that must be refused, and nothing may have changed.
    #[track_caller]
    pub fn no_own(&mut self, process: Koid, number: u64, code: ErrorCode) -> Outcome {
        let before = self.books();
        same(self.subject.create_own(process, number).map_err(CallError::code), Err(code))?;
        same(self.books(), before)
    }

    /// The number of the user's type.
    pub fn own_type(&self) -> TypeNumber {
        self.subject.own_type()
    }

    /// What the user's type was told.
    pub fn hooks(&mut self) -> Vec<(Hook, u64)> {
        self.subject.hooks()
    }

    /// For how many sections there is memory, and how many views there are.
    pub fn memories(&self) -> (usize, usize) {
        self.subject.memories()
    }

    /// Closes a handle as a wrapper's drop does. Whether it was there.
    pub fn gives_up(&mut self, process: Koid, handle: RawHandle) -> bool {
        self.subject.give_up(process, handle)
    }

    /// Of which bad handles the embedder was told.
    pub fn bad_handles(&mut self) -> Vec<(Koid, RawHandle)> {
        self.subject.bad_handles()
    }

    /// How many objects live.
    pub fn live(&self) -> u64 {
        self.subject.live()
    }

    /// How many handles a process has.
    pub fn handles(&self, process: Koid) -> u64 {
        self.subject.handles(process)
    }

    /// Limits a job or a process.
    pub fn limit(&mut self, owner: Koid, resource: Resource, limit: u64) {
        self.subject.limit(owner, resource, limit);
    }

    /// Which processes the embedder was told of.
    pub fn killed(&mut self) -> Vec<Koid> {
        self.subject.killed()
    }

    /// What a handle means.
    #[track_caller]
    pub fn info(&mut self, process: Koid, handle: RawHandle) -> Result<HandleInfo, Failure> {
        match self.does(process, calls::info(handle))? {
            CallAnswer::Info(info) => Ok(info),
            answer => failure(format_args!("a question about {handle} gave {answer:?}")),
        }
    }

    /// Which object a handle means.
    #[track_caller]
    pub fn koid(&mut self, process: Koid, handle: RawHandle) -> Result<Koid, Failure> {
        Ok(self.info(process, handle)?.koid)
    }

    /// What a handle allows.
    #[track_caller]
    pub fn rights(&mut self, process: Koid, handle: RawHandle) -> Result<Rights, Failure> {
        Ok(self.info(process, handle)?.rights)
    }

    /// A new directory without a name.
    #[track_caller]
    pub fn directory(&mut self, process: Koid) -> Result<RawHandle, Failure> {
        self.gives(process, calls::DIRECTORY)
    }

    /// A new directory under that name, temporary.
    #[track_caller]
    pub fn named(&mut self, process: Koid, directory: RawHandle, name: &[u8]) -> Result<RawHandle, Failure> {
        let handle = self.directory(process)?;
        self.done(process, calls::link(directory, name, handle))?;
        Ok(handle)
    }

    /// A new symbolic link under that name, temporary.
    #[track_caller]
    pub fn linked(
        &mut self,
        process: Koid,
        directory: RawHandle,
        name: &[u8],
        target: &[u8],
    ) -> Result<RawHandle, Failure> {
        let handle = self.gives(process, calls::symbolic_link(target))?;
        self.done(process, calls::link(directory, name, handle))?;
        Ok(handle)
    }

    /// A handle with exactly these rights to the same object.
    #[track_caller]
    pub fn weaker(&mut self, process: Koid, handle: RawHandle, rights: Rights) -> Result<RawHandle, Failure> {
        self.gives(process, calls::duplicate(handle, calls::only(rights)))
    }

    /// A new guest in a job of the first one's.
    #[track_caller]
    pub fn guest_in(&mut self, job: RawHandle, inherit: bool) -> Result<Guest, Failure> {
        match self.does(self.first, calls::create_guest(job, inherit))? {
            CallAnswer::Guest { handle, process } => {
                self.guests.push(process);
                Ok(Guest { handle, process })
            }
            answer => failure(format_args!("a new guest gave {answer:?}")),
        }
    }

    /// A new guest in the root job.
    #[track_caller]
    pub fn guest(&mut self) -> Result<Guest, Failure> {
        self.guest_in(self.job, false)
    }

    /// An equal of the first guest's handle, in another guest's table.
    #[track_caller]
    pub fn share(&mut self, handle: RawHandle, to: Guest) -> Result<RawHandle, Failure> {
        let copy = self.gives(self.first, calls::duplicate(handle, calls::SAME))?;
        self.gives(self.first, calls::transfer(copy, to.handle, calls::SAME))
    }

    /// The entry after a cursor.
    #[track_caller]
    pub fn next(&mut self, process: Koid, directory: RawHandle, cursor: u64) -> Result<Option<Entry>, Failure> {
        match self.does(process, calls::enumerate(directory, cursor))? {
            CallAnswer::Entry(entry) => Ok(entry.map(|entry| *entry)),
            answer => failure(format_args!("a listing gave {answer:?}")),
        }
    }

    /// All entries; more than 10,000 are taken for a listing without an end.
    #[track_caller]
    pub fn list(&mut self, process: Koid, directory: RawHandle) -> Result<Vec<Entry>, Failure> {
        self.list_from(process, directory, 0)
    }

    /// All entries after a cursor.
    #[track_caller]
    pub fn list_from(&mut self, process: Koid, directory: RawHandle, cursor: u64) -> Result<Vec<Entry>, Failure> {
        let mut entries = Vec::new();
        let mut cursor = cursor;
        while let Some(entry) = self.next(process, directory, cursor)? {
            if entries.len() == 10_000 {
                return failure(format_args!("the listing does not end"));
            }
            cursor = entry.cursor;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The names in a directory, with blanks between them, in order.
    #[track_caller]
    pub fn names(&mut self, process: Koid, directory: RawHandle) -> Result<String, Failure> {
        Ok(words(&self.list(process, directory)?))
    }

    /// Where a symbolic link leads.
    #[track_caller]
    pub fn target(&mut self, process: Koid, handle: RawHandle) -> Result<Vec<u8>, Failure> {
        match self.does(process, calls::read_link(handle))? {
            CallAnswer::Target(target) => Ok(target),
            answer => failure(format_args!("a symbolic link gave {answer:?}")),
        }
    }
}

/// The names of entries, with blanks between them.
#[must_use]
pub(crate) fn words(entries: &[Entry]) -> String {
    let names: Vec<String> = entries.iter().map(|entry| format!("{}", entry.name.as_bytes().escape_ascii())).collect();
    names.join(" ")
}
