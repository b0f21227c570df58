//! Races: two threads of one manager at once, where there are threads. However they meet, it is as if one had been first.

use crate::calls::*;
use crate::subject::Start;
use crate::world::{Failure, Outcome, holds, same};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use kobj_abi::ErrorCode::{AccessDenied, BadHandle, Cycle, Dying, NameExists, NotFound, Quota, Revoked, WrongName};
use kobj_abi::{ErrorCode, Koid, RawHandle, Rights};
use kobj_core::{Call, CallAnswer, CallError, Resource};

/// An implementation that threads may use at once.
pub trait Threads: Sync + Sized {
    /// What to say about one before it begins.
    type Options: Copy;

    /// One that has just begun.
    ///
    /// # Errors
    /// Why it does not begin.
    fn start(options: Self::Options) -> Result<(Self, Start), CallError>;

    /// Does a call; what it leaves to be done may be left.
    ///
    /// # Errors
    /// [`CallError`]: then nothing may have changed.
    fn call(&self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError>;

    /// Does all that is left to be done.
    fn settle(&self);

    /// How many objects live, of all types.
    fn live(&self) -> u64;

    /// How many handles a process has.
    fn handles(&self, process: Koid) -> u64;

    /// Limits what a job or a process may have.
    fn limit(&self, owner: Koid, resource: Resource, limit: u64);

    /// How many processes the embedder was told of since it was last asked.
    fn killed(&self) -> usize;

    /// Does both at once, each on a thread of its own.
    fn both<R: Send>(&self, one: impl FnOnce() -> R + Send, two: impl FnOnce() -> R + Send) -> (R, R);

    /// Ends it: then its books must be even and nothing left.
    ///
    /// # Errors
    /// What is left or does not add up, in words.
    fn end(self) -> Result<(), String>;
}

/// How often two threads meet in one row.
const ROUNDS: usize = 100;

/// A subject in which two threads meet.
pub struct Arena<T> {
    subject: T,
    first: Koid,
    job: RawHandle,
    root: RawHandle,
}

type Answer = Result<CallAnswer, CallError>;

/// A row: its rule with the source in brackets, and what shows whether it holds.
pub struct Race<T> {
    name: &'static str,
    rule: &'static str,
    run: fn(&Arena<T>) -> Outcome,
}

impl<T> fmt::Debug for Race<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Race").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T: Threads> Race<T> {
    /// Its name, unlike all others.
    #[must_use]
    pub fn name(&self) -> String {
        format!("races::{}", self.name)
    }

    /// The rule and its public source.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule.trim()
    }

    /// Lets two threads meet many times, in one subject; at its end nothing may be left.
    ///
    /// # Errors
    /// What was done otherwise, in words.
    pub fn run(&self, options: T::Options) -> Outcome {
        let begun = T::start(options).map_err(|error| Failure(format!("it does not begin: {error}")))?;
        let (subject, Start { process: first, job, directory: root, .. }) = begun;
        let arena = Arena { subject, first, job, root };
        for round in 0..ROUNDS {
            let before = arena.books();
            (self.run)(&arena).map_err(|failure| Failure(format!("round {round}: {failure}")))?;
            arena.clear()?;
            same(arena.books(), before).map_err(|failure| Failure(format!("after round {round}: {failure}")))?;
        }
        arena.subject.end().map_err(|left| Failure(format!("at the end: {left}")))
    }
}

impl<T: Threads> Arena<T> {
    fn books(&self) -> (u64, u64) {
        self.subject.settle();
        (self.subject.live(), self.subject.handles(self.first))
    }

    fn tries(&self, process: Koid, call: Call<'_>) -> Answer {
        self.subject.call(process, call)
    }

    #[track_caller]
    fn does(&self, process: Koid, call: Call<'_>) -> Result<CallAnswer, Failure> {
        let answer = self.subject.call(process, call);
        holds(answer.is_ok(), &format!("{call:?} is done: {answer:?}"))?;
        answer.map_err(|error| Failure(format!("{error}")))
    }

    #[track_caller]
    fn gives(&self, call: Call<'_>) -> Result<RawHandle, Failure> {
        let answer = self.does(self.first, call)?;
        handle_in(&Ok(answer)).ok_or_else(|| Failure(format!("{call:?} gave no handle")))
    }

    #[track_caller]
    fn refused(&self, process: Koid, call: Call<'_>, code: ErrorCode) -> Outcome {
        same(self.subject.call(process, call).map_err(CallError::code).err(), Some(code))
    }

    #[track_caller]
    fn guest(&self) -> Result<(RawHandle, Koid), Failure> {
        match self.does(self.first, create_guest(self.job, false))? {
            CallAnswer::Guest { handle, process } => Ok((handle, process)),
            answer => Err(Failure(format!("a new guest gave {answer:?}"))),
        }
    }

    /// Ends a guest that a row made.
    #[track_caller]
    fn ends(&self, guest: RawHandle) -> Outcome {
        self.does(self.first, kill(guest))?;
        self.does(self.first, close(guest))?;
        self.subject.settle();
        let _told = self.subject.killed();
        Ok(())
    }

    /// Both calls of the first guest at once.
    fn race(&self, one: Call<'_>, two: Call<'_>) -> (Answer, Answer) {
        self.subject.both(|| self.tries(self.first, one), || self.tries(self.first, two))
    }

    /// Takes away the names that a row left, and with them what they keep.
    fn clear(&self) -> Outcome {
        while let CallAnswer::Entry(Some(entry)) = self.does(self.first, enumerate(self.root, 0))? {
            self.does(self.first, unlink(self.root, entry.name.as_bytes()))?;
        }
        Ok(())
    }
}

/// The handle in an answer.
fn handle_in(answer: &Answer) -> Option<RawHandle> {
    match answer {
        Ok(CallAnswer::Handle(handle) | CallAnswer::Opened { handle, .. } | CallAnswer::Guest { handle, .. }) => {
            Some(*handle)
        }
        _ => None,
    }
}

/// Exactly one was done, and the other one refused with that code.
#[track_caller]
fn one_wins(answers: &(Answer, Answer), code: ErrorCode) -> Outcome {
    let codes = [&answers.0, &answers.1].map(|answer| answer.as_ref().err().map(|error| error.code()));
    holds(
        codes == [None, Some(code)] || codes == [Some(code), None],
        &format!("exactly one is done, the other one refused with {code:?}: {answers:?}"),
    )
}

macro_rules! races {
    ($($(#[doc = $rule:literal])+ fn $name:ident($arena:ident) $body:block)*) => {
        $($(#[doc = $rule])+
        fn $name<T: Threads>($arena: &Arena<T>) -> Outcome {
            $body
            Ok(())
        })*

        /// Every row for threads.
        #[must_use]
        pub fn races<T: Threads>() -> Vec<Race<T>> {
            Vec::from([$(Race { name: stringify!($name), rule: concat!($($rule),+), run: $name }),*])
        }
    };
}

races! {
    /// Of two that close one handle exactly one does. [Zircon ZX_ERR_BAD_HANDLE; Linux close(2) races]
    fn closing_twice(a) {
        let handle = a.gives(DIRECTORY)?;
        one_wins(&a.race(close(handle), close(handle)), BadHandle)?;
    }

    /// Close and duplicate: the equal is one, or there is none. [Zircon zx_handle_duplicate]
    fn closing_against_duplicating(a) {
        let handle = a.gives(DIRECTORY)?;
        let (closed, copied) = a.race(close(handle), duplicate(handle, SAME));
        same(closed, Ok(CallAnswer::Done))?;
        match handle_in(&copied) {
            Some(equal) => a.does(a.first, close(equal)).map(drop)?,
            None => same(copied, Err(CallError::BadHandle { handle }))?,
        }
    }

    /// Close and transfer: exactly one happens. [Zircon zx_channel_write_etc]
    fn closing_against_transferring(a) {
        let (guest, process) = a.guest()?;
        let handle = a.gives(DIRECTORY)?;
        let answers = a.race(close(handle), transfer(handle, guest, SAME));
        one_wins(&answers, BadHandle)?;
        same(a.subject.handles(process), u64::from(answers.1.is_ok()))?;
        a.ends(guest)?;
    }

    /// Close and replace: exactly one happens. [Zircon zx_handle_replace]
    fn closing_against_replacing(a) {
        let handle = a.gives(DIRECTORY)?;
        let answers = a.race(close(handle), replace(handle, only(Rights::LOOKUP)));
        one_wins(&answers, BadHandle)?;
        if let Some(new) = handle_in(&answers.1) {
            a.does(a.first, close(new))?;
        }
    }

    /// Of two that replace one handle exactly one gets the new value. [Zircon zx_handle_replace]
    fn replacing_twice(a) {
        let handle = a.gives(DIRECTORY)?;
        let answers = a.race(replace(handle, SAME), replace(handle, SAME));
        one_wins(&answers, BadHandle)?;
        for new in [handle_in(&answers.0), handle_in(&answers.1)].into_iter().flatten() {
            a.does(a.first, close(new))?;
        }
    }

    /// A handle that is sent to two arrives at one. [Zircon zx_channel_write_etc: the source handle is always closed]
    fn transferring_to_two(a) {
        let ((one, at_one), (two, at_two)) = (a.guest()?, a.guest()?);
        let handle = a.gives(DIRECTORY)?;
        one_wins(&a.race(transfer(handle, one, SAME), transfer(handle, two, SAME)), BadHandle)?;
        same(a.subject.handles(at_one) + a.subject.handles(at_two), 1)?;
        a.ends(one)?;
        a.ends(two)?;
    }

    /// Transfer and the receiver's end: it moved and went with it, or the sender has it.
    /// [Zircon zx_channel_write_etc: ZX_ERR_PEER_CLOSED]
    fn transferring_to_the_dying(a) {
        let (guest, _) = a.guest()?;
        let handle = a.gives(DIRECTORY)?;
        let (moved, killed) = a.race(transfer(handle, guest, SAME), kill(guest));
        same(killed, Ok(CallAnswer::Done))?;
        match moved {
            Ok(_) => a.refused(a.first, info(handle), BadHandle)?,
            Err(error) => {
                same(error.code(), Dying)?;
                a.does(a.first, close(handle))?;
            }
        }
        a.ends(guest)?;
    }

    /// Of two that open or create one makes, and both have the same object.
    /// [NT InitializeObjectAttributes: OBJ_OPENIF]
    fn creating_or_opening_twice(a) {
        let (one, two) = a.race(open_or_create(a.root, b"object", SAME), open_or_create(a.root, b"object", SAME));
        let (Ok(CallAnswer::Opened { handle: one, created: first }), Ok(CallAnswer::Opened { handle: two, created: second })) =
            (&one, &two)
        else {
            return holds(false, &format!("both have a handle: {one:?} {two:?}"));
        };
        holds(first != second, "exactly one made it")?;
        let koid = |handle: RawHandle| match a.does(a.first, info(handle)) {
            Ok(CallAnswer::Info(info)) => Some(info.koid),
            _ => None,
        };
        same(koid(*one), koid(*two))?;
        a.does(a.first, close(*one))?;
        a.does(a.first, close(*two))?;
    }

    /// Of two that must make it new one does. [Linux open(2): O_EXCL]
    fn creating_new_twice(a) {
        let answers = a.race(create_new(a.root, b"object", SAME), create_new(a.root, b"object", SAME));
        one_wins(&answers, NameExists)?;
        for made in [handle_in(&answers.0), handle_in(&answers.1)].into_iter().flatten() {
            a.does(a.first, close(made))?;
        }
    }

    /// Two objects cannot get one name. [NT InitializeObjectAttributes: STATUS_OBJECT_NAME_COLLISION]
    fn linking_two_under_one_name(a) {
        let (one, two) = (a.gives(DIRECTORY)?, a.gives(DIRECTORY)?);
        one_wins(&a.race(link(a.root, b"object", one), link(a.root, b"object", two)), NameExists)?;
        a.does(a.first, close(one))?;
        a.does(a.first, close(two))?;
    }

    /// One object cannot get two names. [docs/semantics.md, link]
    fn linking_one_under_two_names(a) {
        let one = a.gives(DIRECTORY)?;
        one_wins(&a.race(link(a.root, b"one", one), link(a.root, b"two", one)), WrongName)?;
        a.does(a.first, close(one))?;
    }

    /// Two directories cannot come to contain each other. [Linux rename(2): EINVAL]
    fn linking_in_a_circle(a) {
        let (one, two) = (a.gives(DIRECTORY)?, a.gives(DIRECTORY)?);
        one_wins(&a.race(link(one, b"two", two), link(two, b"one", one)), Cycle)?;
        a.does(a.first, close(one))?;
        a.does(a.first, close(two))?;
    }

    /// Two names cannot be renamed to one. [Linux renameat2(2): RENAME_NOREPLACE]
    fn renaming_two_to_one(a) {
        let (one, two) = (a.gives(DIRECTORY)?, a.gives(DIRECTORY)?);
        a.does(a.first, link(a.root, b"one", one))?;
        a.does(a.first, link(a.root, b"two", two))?;
        one_wins(&a.race(rename(a.root, b"one", b"new"), rename(a.root, b"two", b"new")), NameExists)?;
        a.does(a.first, close(one))?;
        a.does(a.first, close(two))?;
    }

    /// A name is taken away once. [Linux unlink(2): ENOENT]
    fn unlinking_twice(a) {
        let handle = a.gives(DIRECTORY)?;
        a.does(a.first, link(a.root, b"object", handle))?;
        one_wins(&a.race(unlink(a.root, b"object"), unlink(a.root, b"object")), NotFound)?;
        a.does(a.first, close(handle))?;
    }

    /// Open and the last close: a handle that works, or no such name.
    /// [NT ZwMakeTemporaryObject: the name goes with the last handle]
    fn opening_against_the_last_close(a) {
        let handle = a.gives(DIRECTORY)?;
        a.does(a.first, link(a.root, b"object", handle))?;
        let (opened, closed) = a.race(open(a.root, b"object"), close(handle));
        same(closed, Ok(CallAnswer::Done))?;
        match (handle_in(&opened), opened) {
            (Some(opened), _) => {
                let again = a.gives(open(a.root, b"object"))?;
                a.does(a.first, close(again))?;
                a.does(a.first, close(opened))?;
            }
            (None, answer) => same(answer.map_err(CallError::code).err(), Some(NotFound))?,
        }
        a.subject.settle();
        a.refused(a.first, open(a.root, b"object"), NotFound)?;
    }

    /// Open and unlink: a handle that works, or no such name. [Linux open(2), unlink(2)]
    fn opening_against_unlinking(a) {
        let handle = a.gives(DIRECTORY)?;
        a.does(a.first, link(a.root, b"object", handle))?;
        let (opened, gone) = a.race(open(a.root, b"object"), unlink(a.root, b"object"));
        same(gone, Ok(CallAnswer::Done))?;
        if let Some(opened) = handle_in(&opened) {
            a.does(a.first, close(opened))?;
        }
        a.does(a.first, close(handle))?;
    }

    /// Revoke and derive: when both have returned nothing that was derived before is there. [seL4 CNode_Revoke]
    fn revoking_against_deriving(a) {
        let handle = a.gives(DIRECTORY)?;
        let child = a.gives(derive(handle, SAME))?;
        let (revoked, derived) = a.race(revoke(handle), derive(child, SAME));
        same(revoked, Ok(CallAnswer::Done))?;
        a.subject.settle();
        a.refused(a.first, info(child), BadHandle)?;
        match (handle_in(&derived), derived) {
            (Some(below), _) => a.refused(a.first, info(below), BadHandle)?,
            (None, answer) => {
                let code = answer.map_err(CallError::code).err();
                holds(code == Some(BadHandle) || code == Some(Revoked), "it was taken back, or is being")?;
            }
        }
        a.does(a.first, close(handle))?;
    }

    /// Revoke and duplicate: no equal of what was taken back is left. [seL4: siblings of the derived]
    fn revoking_against_duplicating(a) {
        let handle = a.gives(DIRECTORY)?;
        let child = a.gives(derive(handle, SAME))?;
        let (revoked, copied) = a.race(revoke(handle), duplicate(child, SAME));
        same(revoked, Ok(CallAnswer::Done))?;
        a.subject.settle();
        if let Some(equal) = handle_in(&copied) {
            a.refused(a.first, info(equal), BadHandle)?;
        }
        a.refused(a.first, info(child), BadHandle)?;
        a.does(a.first, close(handle))?;
    }

    /// Revoke and transfer: what moved is taken in the other table. [seL4: in all CSpaces]
    fn revoking_against_transferring(a) {
        let (guest, process) = a.guest()?;
        let handle = a.gives(DIRECTORY)?;
        let child = a.gives(derive(handle, SAME))?;
        let (revoked, _moved) = a.race(revoke(handle), transfer(child, guest, SAME));
        same(revoked, Ok(CallAnswer::Done))?;
        a.subject.settle();
        same(a.subject.handles(process), 0)?;
        a.refused(a.first, info(child), BadHandle)?;
        a.does(a.first, close(handle))?;
        a.ends(guest)?;
    }

    /// Revoke and close of the middle: what is below it is taken all the same. [seL4 CNode_Delete, CNode_Revoke]
    fn revoking_against_closing_the_middle(a) {
        let handle = a.gives(DIRECTORY)?;
        let child = a.gives(derive(handle, SAME))?;
        let below = a.gives(derive(child, SAME))?;
        let (revoked, _closed) = a.race(revoke(handle), close(child));
        same(revoked, Ok(CallAnswer::Done))?;
        a.subject.settle();
        a.refused(a.first, info(below), BadHandle)?;
        a.does(a.first, close(handle))?;
    }

    /// Of two that revoke both come to an end. [seL4: revoke is restartable]
    fn revoking_twice(a) {
        let handle = a.gives(DIRECTORY)?;
        let mut below = Vec::from([handle]);
        for at in 0..8 {
            below.push(a.gives(derive(below[at], SAME))?);
        }
        let (one, two) = a.race(revoke(handle), revoke(handle));
        same((one, two), (Ok(CallAnswer::Done), Ok(CallAnswer::Done)))?;
        a.subject.settle();
        for taken in &below[1..] {
            a.refused(a.first, info(*taken), BadHandle)?;
        }
        a.does(a.first, close(handle))?;
    }

    /// Kill and the guest's own calls: whatever it made is gone with it. [Zircon zx_task_kill]
    fn killing_against_creating(a) {
        let (guest, process) = a.guest()?;
        let live = a.subject.live();
        let make = || {
            let mut last = Ok(CallAnswer::Done);
            for _ in 0..20 {
                last = a.tries(process, DIRECTORY);
            }
            last
        };
        let (killed, _last) = a.subject.both(|| a.tries(a.first, kill(guest)), make);
        same(killed, Ok(CallAnswer::Done))?;
        a.subject.settle();
        same((a.subject.live(), a.subject.handles(process)), (live, 0))?;
        a.refused(process, DIRECTORY, Dying)?;
        a.ends(guest)?;
    }

    /// Killed twice at once, the embedder is told once. [Zircon zx_task_kill]
    fn killing_twice(a) {
        let (guest, _) = a.guest()?;
        let answers = a.race(kill(guest), kill(guest));
        same(answers, (Ok(CallAnswer::Done), Ok(CallAnswer::Done)))?;
        a.subject.settle();
        same(a.subject.killed(), 1)?;
        a.does(a.first, close(guest))?;
    }

    /// Two that create where one fits: one does. [docs/semantics.md: never exceeded]
    fn creating_at_the_limit(a) {
        let (guest, process) = a.guest()?;
        a.subject.limit(process, Resource::Handles, 1);
        let make = || a.tries(process, DIRECTORY);
        one_wins(&a.subject.both(make, make), Quota)?;
        same(a.subject.handles(process), 1)?;
        a.ends(guest)?;
    }

    /// Close and create at the limit: never one more than it, and never refused when there is room.
    /// [docs/semantics.md: who pays]
    fn closing_against_creating_at_the_limit(a) {
        let (guest, process) = a.guest()?;
        a.subject.limit(process, Resource::Handles, 1);
        let held = handle_in(&a.tries(process, DIRECTORY)).ok_or_else(|| Failure("there is room for one".into()))?;
        let (closed, made) = a.subject.both(|| a.tries(process, close(held)), || a.tries(process, DIRECTORY));
        same(closed, Ok(CallAnswer::Done))?;
        same(a.subject.handles(process), u64::from(made.is_ok()))?;
        if made.is_err() {
            a.does(process, DIRECTORY)?;
        }
        a.ends(guest)?;
    }

    /// A listing under change: what is there throughout is seen once. [Linux readdir(3) promises less]
    fn listing_against_changing(a) {
        let mut held = Vec::new();
        for number in 0..10 {
            for name in [format!("stays-{number}"), format!("goes-{number}")] {
                let handle = a.gives(DIRECTORY)?;
                a.does(a.first, link(a.root, name.as_bytes(), handle))?;
                held.push(handle);
            }
        }
        let list = || {
            let (mut seen, mut cursor) = (0, 0);
            while let Ok(CallAnswer::Entry(Some(entry))) = a.tries(a.first, enumerate(a.root, cursor)) {
                cursor = entry.cursor;
                seen += usize::from(!entry.name.as_bytes().starts_with(b"goes"));
            }
            seen
        };
        let change = || {
            let mut changed = 0;
            for number in 0..10 {
                let (name, moved) = (format!("stays-{number}"), format!("moved-{number}"));
                changed += usize::from(a.tries(a.first, rename(a.root, name.as_bytes(), moved.as_bytes())).is_ok());
                let _gone = a.tries(a.first, unlink(a.root, format!("goes-{number}").as_bytes()));
            }
            changed
        };
        same(a.subject.both(list, change), (10, 10))?;
        for handle in held {
            a.does(a.first, close(handle))?;
        }
    }

    /// Made temporary while the other handle is closed: the name goes with whichever is last.
    /// [NT ZwMakeTemporaryObject]
    fn permanence_against_closing(a) {
        let handle = a.gives(DIRECTORY)?;
        let other = a.gives(duplicate(handle, SAME))?;
        a.does(a.first, link_permanently(a.root, b"object", handle))?;
        let temporary = || {
            a.tries(a.first, permanent(handle, false))?;
            a.tries(a.first, close(handle))
        };
        let answers = a.subject.both(temporary, || a.tries(a.first, close(other)));
        same(answers, (Ok(CallAnswer::Done), Ok(CallAnswer::Done)))?;
        a.subject.settle();
        a.refused(a.first, open(a.root, b"object"), NotFound)?;
    }

    /// Inherit and close: the heir has it, or nobody. [NT CreateProcess: bInheritHandles]
    fn inheriting_against_closing(a) {
        let handle = a.gives(DIRECTORY)?;
        a.does(a.first, inheritable(handle, true))?;
        let (guest, closed) = a.race(create_guest(a.job, true), close(handle));
        same(closed, Ok(CallAnswer::Done))?;
        let Ok(CallAnswer::Guest { handle: guest, process }) = guest else {
            return holds(false, &format!("a guest is made: {guest:?}"));
        };
        holds(a.subject.handles(process) <= 1, "it has one handle at most")?;
        a.ends(guest)?;
    }

    /// Rights that were taken from a handle are not got back by a race. [Zircon zx_handle_replace]
    fn replacing_against_duplicating(a) {
        let handle = a.gives(DIRECTORY)?;
        let (less, copied) = a.race(replace(handle, only(Rights::LOOKUP)), duplicate(handle, SAME));
        let less = handle_in(&less).ok_or_else(|| Failure("it is replaced".into()))?;
        a.refused(a.first, enumerate(less, 0), AccessDenied)?;
        a.does(a.first, close(less))?;
        if let Some(equal) = handle_in(&copied) {
            a.does(a.first, close(equal))?;
        }
    }
}
