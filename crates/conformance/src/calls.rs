//! Calls in short: rows are read more often than written.

use kobj_abi::{AskedRights, ObjectType, RawHandle, Rights};
use kobj_core::{BadHandlePolicy, Call, Resource, What};

/// All that there is to give.
pub const SAME: AskedRights = AskedRights::Same;

/// No rights at all.
pub const NOTHING: AskedRights = AskedRights::Exactly(Rights::NONE);

/// A directory is made.
pub const DIRECTORY: Call<'static> = Call::Create { what: What::Directory };

/// These rights.
#[must_use]
pub const fn only(rights: Rights) -> AskedRights {
    AskedRights::Exactly(rights)
}

/// A value from nowhere; 1 for 0, which cannot be said.
#[must_use]
pub fn made_up(raw: u64) -> RawHandle {
    RawHandle::from_raw(raw).or(RawHandle::from_raw(1)).unwrap_or_else(|| made_up(1))
}

/// [`Call::Close`].
#[must_use]
pub const fn close(handle: RawHandle) -> Call<'static> {
    Call::Close { handle }
}

/// [`Call::Duplicate`].
#[must_use]
pub const fn duplicate(handle: RawHandle, rights: AskedRights) -> Call<'static> {
    Call::Duplicate { handle, rights }
}

/// [`Call::Replace`].
#[must_use]
pub const fn replace(handle: RawHandle, rights: AskedRights) -> Call<'static> {
    Call::Replace { handle, rights }
}

/// [`Call::Derive`].
#[must_use]
pub const fn derive(handle: RawHandle, rights: AskedRights) -> Call<'static> {
    Call::Derive { handle, rights }
}

/// [`Call::Revoke`].
#[must_use]
pub const fn revoke(handle: RawHandle) -> Call<'static> {
    Call::Revoke { handle }
}

/// [`Call::Transfer`].
#[must_use]
pub const fn transfer(handle: RawHandle, process: RawHandle, rights: AskedRights) -> Call<'static> {
    Call::Transfer { handle, process, rights }
}

/// [`Call::HandleInfo`].
#[must_use]
pub const fn info(handle: RawHandle) -> Call<'static> {
    Call::HandleInfo { handle }
}

/// [`Call::SetInheritable`].
#[must_use]
pub const fn inheritable(handle: RawHandle, inheritable: bool) -> Call<'static> {
    Call::SetInheritable { handle, inheritable }
}

/// A symbolic link is made.
#[must_use]
pub const fn symbolic_link(target: &[u8]) -> Call<'_> {
    Call::Create { what: What::SymbolicLink { target } }
}

/// [`Call::CreateJob`].
#[must_use]
pub const fn create_job(job: RawHandle) -> Call<'static> {
    Call::CreateJob { job }
}

/// [`Call::CreateGuest`].
#[must_use]
pub const fn create_guest(job: RawHandle, inherit: bool) -> Call<'static> {
    Call::CreateGuest { job, inherit }
}

/// [`Call::Kill`].
#[must_use]
pub const fn kill(handle: RawHandle) -> Call<'static> {
    Call::Kill { handle }
}

/// [`Call::Link`] with all the handle's rights, temporary.
#[must_use]
pub const fn link(directory: RawHandle, name: &[u8], handle: RawHandle) -> Call<'_> {
    Call::Link { directory, name, handle, most: SAME, permanent: false }
}

/// [`Call::Link`] with fewer rights, temporary.
#[must_use]
pub const fn link_most(directory: RawHandle, name: &[u8], handle: RawHandle, most: AskedRights) -> Call<'_> {
    Call::Link { directory, name, handle, most, permanent: false }
}

/// [`Call::Link`] with all the handle's rights, permanent.
#[must_use]
pub const fn link_permanently(directory: RawHandle, name: &[u8], handle: RawHandle) -> Call<'_> {
    Call::Link { directory, name, handle, most: SAME, permanent: true }
}

/// [`Call::Unlink`].
#[must_use]
pub const fn unlink(directory: RawHandle, name: &[u8]) -> Call<'_> {
    Call::Unlink { directory, name }
}

/// [`Call::Rename`].
#[must_use]
pub const fn rename<'a>(directory: RawHandle, from: &'a [u8], to: &'a [u8]) -> Call<'a> {
    Call::Rename { directory, from, to }
}

/// [`Call::Open`] with all that the entry grants, of any type, followed to the end.
#[must_use]
pub const fn open(directory: RawHandle, path: &[u8]) -> Call<'_> {
    Call::Open { directory, path, rights: SAME, expected: None, follow: true }
}

/// [`Call::Open`] with these rights.
#[must_use]
pub const fn open_with(directory: RawHandle, path: &[u8], rights: AskedRights) -> Call<'_> {
    Call::Open { directory, path, rights, expected: None, follow: true }
}

/// [`Call::Open`] of that type alone.
#[must_use]
pub const fn open_typed(directory: RawHandle, path: &[u8], expected: ObjectType) -> Call<'_> {
    Call::Open { directory, path, rights: SAME, expected: Some(expected.number()), follow: true }
}

/// [`Call::Open`], a symbolic link at the end not followed.
#[must_use]
pub const fn open_link(directory: RawHandle, path: &[u8]) -> Call<'_> {
    Call::Open { directory, path, rights: SAME, expected: None, follow: false }
}

/// [`Call::OpenOrCreate`] of a directory.
#[must_use]
pub const fn open_or_create(directory: RawHandle, name: &[u8], rights: AskedRights) -> Call<'_> {
    Call::OpenOrCreate { directory, name, what: What::Directory, rights, exclusive: false }
}

/// [`Call::OpenOrCreate`] of a directory, which must be new.
#[must_use]
pub const fn create_new(directory: RawHandle, name: &[u8], rights: AskedRights) -> Call<'_> {
    Call::OpenOrCreate { directory, name, what: What::Directory, rights, exclusive: true }
}

/// [`Call::Enumerate`].
#[must_use]
pub const fn enumerate(directory: RawHandle, cursor: u64) -> Call<'static> {
    Call::Enumerate { directory, cursor }
}

/// [`Call::SetPermanent`].
#[must_use]
pub const fn permanent(handle: RawHandle, permanent: bool) -> Call<'static> {
    Call::SetPermanent { handle, permanent }
}

/// [`Call::ReadLink`].
#[must_use]
pub const fn read_link(handle: RawHandle) -> Call<'static> {
    Call::ReadLink { handle }
}

/// [`Call::SetQuota`].
#[must_use]
pub const fn set_quota(handle: RawHandle, resource: Resource, limit: u64) -> Call<'static> {
    Call::SetQuota { handle, resource, limit }
}

/// [`Call::SetBadHandlePolicy`].
#[must_use]
pub const fn set_policy(job: RawHandle, policy: BadHandlePolicy) -> Call<'static> {
    Call::SetBadHandlePolicy { job, policy }
}

/// [`Call::Recharge`].
#[must_use]
pub const fn recharge(handle: RawHandle, from: RawHandle, to: RawHandle) -> Call<'static> {
    Call::Recharge { handle, from, to }
}

/// [`Call::Why`].
#[must_use]
pub const fn why(handle: RawHandle) -> Call<'static> {
    Call::Why { handle }
}

/// [`Call::Holders`].
#[must_use]
pub const fn holders(handle: RawHandle) -> Call<'static> {
    Call::Holders { handle }
}

/// [`Call::KeptBy`].
#[must_use]
pub const fn kept_by(handle: RawHandle) -> Call<'static> {
    Call::KeptBy { handle }
}

/// [`Call::DerivedFrom`].
#[must_use]
pub const fn derived_from(handle: RawHandle) -> Call<'static> {
    Call::DerivedFrom { handle }
}
