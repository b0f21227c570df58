//! Rights: a row for each type and operation, generated from the manager's own table, which `docs/semantics.md` shows.
//!
//! With exactly the listed rights the operation succeeds; with all others and one of them missing it is refused, and the
//! refusal says which. Where the type has no such operation the handle is of the wrong type, with all rights and with none.

use crate::calls;
use crate::row::{Nature, Row};
use crate::subject::Subject;
use crate::world::{Failure, Outcome, World, holds, same};
use alloc::vec::Vec;
use kobj_abi::section::Access;
use kobj_abi::{Koid, ObjectType, Operation, RawHandle, Rights, rights_needed};
use kobj_core::{BadHandlePolicy, CallAnswer, CallError, Resource};

/// The types that a guest can make.
const TYPES: [ObjectType; 5] =
    [ObjectType::Job, ObjectType::Process, ObjectType::Directory, ObjectType::SymbolicLink, ObjectType::Section];

/// The operations that a call asks for.
const OPERATIONS: [Operation; 32] = [
    Operation::Close,
    Operation::Replace,
    Operation::HandleInfo,
    Operation::Duplicate,
    Operation::Derive,
    Operation::Revoke,
    Operation::Transfer,
    Operation::Name,
    Operation::NamePermanently,
    Operation::SetPermanent,
    Operation::Link,
    Operation::Unlink,
    Operation::Rename,
    Operation::Open,
    Operation::CreateNew,
    Operation::OpenOrCreate,
    Operation::Enumerate,
    Operation::ReadLink,
    Operation::CreateJob,
    Operation::CreateProcess,
    Operation::Kill,
    Operation::Receive,
    Operation::Recharge,
    Operation::MoveCharge,
    Operation::SetQuota,
    Operation::SetPolicy,
    Operation::Map,
    Operation::MapWritable,
    Operation::Why,
    Operation::Holders,
    Operation::KeptBy,
    Operation::DerivedFrom,
];

/// A row for each type and operation.
pub(super) fn rows<S: Subject>(rows: &mut Vec<Row<S>>) {
    for object_type in TYPES {
        rows.extend(OPERATIONS.into_iter().map(|operation| Row::rights(object_type, operation)));
    }
}

/// What needs no right cannot be refused for one.
pub(crate) fn nature(object_type: ObjectType, operation: Operation) -> Nature {
    match rights_needed(object_type.number(), operation) {
        Some(needed) if needed.is_empty() => Nature::plain,
        _ => Nature::refusal,
    }
}

/// The row.
pub(crate) fn run<S: Subject>(w: &mut World<S>, object_type: ObjectType, operation: Operation) -> Outcome {
    let all = object_type.default_rights();
    let found = object_type.number();
    let Some(needed) = rights_needed(found, operation) else {
        for rights in [all, Rights::NONE] {
            let (koid, result) = attempt(w, object_type, operation, rights)?;
            same(result, Err(CallError::WrongType { koid, found, operation }))?;
        }
        return Ok(());
    };
    let (_, result) = attempt(w, object_type, operation, needed)?;
    // Jobs and processes are charged where they stand: that is what is left to refuse.
    let stands = matches!(result, Err(CallError::StandsInItsJob { .. })) && operation == Operation::Recharge;
    holds(result.is_ok() || stands, "the listed rights are enough")?;
    let mut lacking: Vec<Rights> = (0..32).map(|bit| Rights::from_bits(1 << bit)).collect();
    lacking.retain(|bit| needed.contains(*bit));
    lacking.push(needed);
    for missing in lacking.into_iter().filter(|missing| !missing.is_empty()) {
        let before = w.live();
        let (koid, result) = attempt(w, object_type, operation, all.without(missing))?;
        same(result, Err(CallError::AccessDenied { koid, operation, missing }))?;
        holds(w.live() >= before, "what was refused destroyed nothing")?;
    }
    Ok(())
}

/// A new object of a type, with a handle that allows all. Objects that names are wanted of have none yet.
fn make<S: Subject>(w: &mut World<S>, object_type: ObjectType) -> Result<RawHandle, Failure> {
    let (me, job) = (w.first, w.job);
    match object_type {
        ObjectType::Job => w.gives(me, calls::create_job(job)),
        ObjectType::Process => Ok(w.guest()?.handle),
        ObjectType::SymbolicLink => w.gives(me, calls::symbolic_link(b"nowhere")),
        ObjectType::Section => w.section(me, 64),
        _ => w.directory(me),
    }
}

/// Does an operation by a handle with these rights to a new object of that type; everything else about it is right.
fn attempt<S: Subject>(
    w: &mut World<S>,
    object_type: ObjectType,
    operation: Operation,
    rights: Rights,
) -> Result<(Koid, Result<CallAnswer, CallError>), Failure> {
    use Operation as O;
    let me = w.first;
    let full = make(w, object_type)?;
    let koid = w.koid(me, full)?;
    let other = w.directory(me)?;
    let fresh = w.directory(me)?;
    let inner = w.gives(me, calls::create_job(w.job))?;
    if object_type == ObjectType::Directory && matches!(operation, O::Unlink | O::Rename | O::Open) {
        w.done(me, calls::link(full, b"old", other))?;
    }
    if operation == O::SetPermanent {
        w.done(me, calls::link(other, b"object", full))?;
    }
    let handle = w.weaker(me, full, rights)?;
    let call = match operation {
        O::Close => calls::close(handle),
        O::Replace => calls::replace(handle, calls::SAME),
        O::Duplicate => calls::duplicate(handle, calls::SAME),
        O::Derive => calls::derive(handle, calls::SAME),
        O::Revoke => calls::revoke(handle),
        O::Transfer => calls::transfer(handle, w.guest()?.handle, calls::SAME),
        O::Name => calls::link(other, b"object", handle),
        O::NamePermanently => calls::link_permanently(other, b"object", handle),
        O::SetPermanent => calls::permanent(handle, false),
        O::Link => calls::link(handle, b"new", fresh),
        O::Unlink => calls::unlink(handle, b"old"),
        O::Rename => calls::rename(handle, b"old", b"new"),
        O::Open => calls::open(handle, b"old"),
        O::CreateNew => calls::create_new(handle, b"new", calls::SAME),
        O::OpenOrCreate => calls::open_or_create(handle, b"new", calls::SAME),
        O::Enumerate => calls::enumerate(handle, 0),
        O::ReadLink => calls::read_link(handle),
        O::CreateJob => calls::create_job(handle),
        O::CreateProcess => calls::create_guest(handle, false),
        O::Kill => calls::kill(handle),
        O::Receive => calls::transfer(fresh, handle, calls::SAME),
        O::Recharge => calls::recharge(handle, w.job, inner),
        O::MoveCharge => calls::recharge(fresh, w.job, handle),
        O::SetQuota => calls::set_quota(handle, Resource::Handles, 100),
        O::SetPolicy => calls::set_policy(handle, BadHandlePolicy::Trace),
        O::Why => calls::why(handle),
        O::Holders => calls::holders(handle),
        O::KeptBy => calls::kept_by(handle),
        O::DerivedFrom => calls::derived_from(handle),
        O::Map | O::MapWritable => {
            let access = if operation == O::Map { Access::Read } else { Access::ReadWrite };
            let mapped = w.tries_to_map(me, handle, (0, 64), access);
            return Ok((koid, mapped.map(|_| CallAnswer::Done)));
        }
        _ => calls::info(handle),
    };
    Ok((koid, w.tries(me, call)))
}
