//! Questions: who holds an object, who keeps it and why, and from whom a handle came.

use crate::calls::*;
use crate::row::rows;
use crate::subject::Subject;
use crate::world::{Failure, World, holds, same};
use alloc::format;
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{AccessDenied, BadHandle, Dying};
use kobj_abi::{Koid, LinkKind, RawHandle, Rights};
use kobj_core::{CallAnswer, Holder, Keeper, Why};

/// Who holds an object, in the order of their koids.
fn all_holders<S: Subject>(w: &mut World<S>, handle: RawHandle) -> Result<Vec<Holder>, Failure> {
    match w.does(w.first, holders(handle))? {
        CallAnswer::Holders(mut found) => {
            found.sort_by_key(|holder| holder.process);
            Ok(found)
        }
        answer => Err(Failure(format!("a question about holders gave {answer:?}"))),
    }
}

/// Who keeps an object, in the order of their koids.
fn all_keepers<S: Subject>(w: &mut World<S>, handle: RawHandle) -> Result<Vec<(Koid, LinkKind)>, Failure> {
    match w.does(w.first, kept_by(handle))? {
        CallAnswer::KeptBy(found) => {
            let mut found: Vec<_> = found.into_iter().map(|Keeper { koid, kind }| (koid, kind)).collect();
            found.sort();
            Ok(found)
        }
        answer => Err(Failure(format!("a question about keepers gave {answer:?}"))),
    }
}

/// From whom a handle came.
fn origins<S: Subject>(w: &mut World<S>, process: Koid, handle: RawHandle) -> Result<Vec<Koid>, Failure> {
    match w.does(process, derived_from(handle))? {
        CallAnswer::DerivedFrom(chain) => Ok(chain),
        answer => Err(Failure(format!("a question about derivation gave {answer:?}"))),
    }
}

rows! { Questions:
    /// Every process with handles is told, how many it has, and what they allow together. [Linux proc_pid_fd(5)]
    plain fn every_holder_is_told(w) {
        let me = w.first;
        let guest = w.guest()?;
        let full = w.directory(me)?;
        let handle = w.gives(me, replace(full, only(Rights::DUPLICATE | Rights::INSPECT | Rights::TRANSFER)))?;
        let looks = w.weaker(me, handle, Rights::INSPECT)?;
        for rights in [Rights::INSPECT, Rights::DUPLICATE] {
            let copy = w.gives(me, duplicate(handle, SAME))?;
            w.gives(me, transfer(copy, guest.handle, only(rights)))?;
        }
        let mine = Holder { process: me, handles: 2, rights: Rights::DUPLICATE | Rights::INSPECT | Rights::TRANSFER };
        let theirs = Holder { process: guest.process, handles: 2, rights: Rights::INSPECT | Rights::DUPLICATE };
        same(all_holders(w, looks)?, Vec::from([mine, theirs]))?;
    }

    /// Whoever closed, or was ended, holds nothing. [Linux proc_pid_fd(5)]
    order fn whoever_ended_holds_nothing(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        let handle = w.directory(me)?;
        let (at_one, _at_two) = (w.share(handle, one)?, w.share(handle, two)?);
        same(all_holders(w, handle)?.len(), 3)?;
        w.done(one.process, close(at_one))?;
        same(all_holders(w, handle)?.len(), 2)?;
        w.done(me, kill(two.handle))?;
        let left: Vec<Koid> = all_holders(w, handle)?.iter().map(|holder| holder.process).collect();
        same(left, Vec::from([me]))?;
    }

    /// A temporary name keeps nothing, a permanent one does. [NT InitializeObjectAttributes: OBJ_PERMANENT]
    order fn a_temporary_name_keeps_nothing(w) {
        let (me, root) = (w.first, w.root);
        let directory = w.koid(me, root)?;
        let handle = w.named(me, root, b"object")?;
        same(all_keepers(w, handle)?, Vec::from([(me, LinkKind::Holds)]))?;
        w.done(me, permanent(handle, true))?;
        let mut both = Vec::from([(me, LinkKind::Holds), (directory, LinkKind::Contains)]);
        both.sort();
        same(all_keepers(w, handle)?, both)?;
        w.done(me, unlink(root, b"object"))?;
        same(all_keepers(w, handle)?, Vec::from([(me, LinkKind::Holds)]))?;
    }

    /// A living guest is kept by its job, a dead one by handles alone. [docs/semantics.md, kept_by]
    order fn a_living_guest_is_kept_by_its_job(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let koid = w.koid(me, job)?;
        let guest = w.guest_in(job, false)?;
        let mut both = Vec::from([(me, LinkKind::Holds), (koid, LinkKind::Contains)]);
        both.sort();
        same(all_keepers(w, guest.handle)?, both)?;
        w.done(me, kill(guest.handle))?;
        same(all_keepers(w, guest.handle)?, Vec::from([(me, LinkKind::Holds)]))?;
    }

    /// Whoever asks has a handle: that is why. [docs/semantics.md, why]
    plain fn whoever_asks_is_why(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let chain = Vec::from([(me, LinkKind::Holds)]);
        same(w.does(me, why(handle))?, CallAnswer::Why(Why { chain, rooted: true }))?;
    }

    /// Derivation is told to its root, the nearest first. [seL4: the derivation tree]
    plain fn derivation_is_told_to_its_root(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let child = w.gives(me, derive(handle, SAME))?;
        let grandchild = w.gives(me, derive(child, SAME))?;
        same(origins(w, me, handle)?, Vec::new())?;
        same(origins(w, me, child)?, Vec::from([me]))?;
        same(origins(w, me, grandchild)?, Vec::from([me, me]))?;
        let moved = w.gives(me, transfer(grandchild, guest.handle, SAME))?;
        let below = w.gives(guest.process, derive(moved, SAME))?;
        let chain = origins(w, guest.process, below)?;
        holds(chain.len() == 3 && chain[1..] == [me, me], "what was derived there came from here")?;
    }

    /// Duplicates came from where the first one came; what is opened came from nobody. [docs/semantics.md, derived_from]
    plain fn what_is_opened_came_from_nobody(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.named(me, root, b"object")?;
        let child = w.gives(me, derive(handle, SAME))?;
        let equal = w.gives(me, duplicate(child, SAME))?;
        let opened = w.gives(me, open(root, b"object"))?;
        same(origins(w, me, equal)?, Vec::from([me]))?;
        same(origins(w, me, opened)?, Vec::new())?;
    }

    /// Questions need INSPECT of the handle, whatever it allows else. [NT NtQueryObject; Zircon rights: ZX_RIGHT_INSPECT]
    refusal fn questions_need_inspect(w) {
        let me = w.first;
        let full = w.directory(me)?;
        let rights = w.rights(me, full)?.without(Rights::INSPECT);
        let blind = w.weaker(me, full, rights)?;
        for question in [why(blind), holders(blind), kept_by(blind), derived_from(blind)] {
            w.refused(me, question, AccessDenied)?;
        }
        w.info(me, blind)?;
    }

    /// Nothing is told by a handle that is none, nor to whoever has ended. [Zircon zx_object_get_info: ZX_ERR_BAD_HANDLE]
    refusal fn nothing_is_told_by_a_bad_handle(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(guest.process)?;
        for question in [why(handle), holders(handle), kept_by(handle), derived_from(handle)] {
            w.refused(me, question, BadHandle)?;
        }
        w.done(me, kill(guest.handle))?;
        for question in [why(handle), holders(handle), kept_by(handle), derived_from(handle)] {
            w.refused(guest.process, question, Dying)?;
        }
    }
}
