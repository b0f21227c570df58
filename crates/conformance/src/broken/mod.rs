//! Implementations with one mistake each: a suite that none of them fails would be a comment.
//!
//! [`Broken`] wraps a subject and changes what it is asked or what it says, by one [`Fault`]. Each fault names the row that
//! sees it; a test runs that row on the broken subject, where it must fail, and on the sound one, where it must hold.

mod after;
mod before;
mod torn;

pub use torn::{Tear, Torn};

use crate::subject::{Hook, Start, Subject};
use alloc::string::String;
use alloc::vec::Vec;
use kobj_abi::section::{Access, Part, ViewError};
use kobj_abi::{Koid, RawHandle, Rights, TypeNumber};
use kobj_core::{Call, CallAnswer, CallError, Resource};

macro_rules! faults {
    ($(#[$what:meta])* $faults:ident: $($(#[$text:meta])* $name:ident $row:literal,)*) => {
        $(#[$what])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $faults {
            $($(#[$text])* $name,)*
        }

        impl $faults {
            /// Every one.
            pub const ALL: [Self; [$($row),*].len()] = [$(Self::$name),*];

            /// The row that sees it.
            #[must_use]
            pub const fn seen_by(self) -> &'static str {
                match self {
                    $(Self::$name => $row,)*
                }
            }
        }
    };
}

pub(crate) use faults;

faults! {
    /// A mistake.
    Fault:
    /// A new handle gets the value of a closed one.
    ReusesClosedValues "handles::a_closed_value_never_comes_back",
    /// What is closed already can be closed again.
    ClosesTwice "handles::a_closed_value_is_refused",
    /// Values of the first guest's table mean something in every table.
    KnowsForeignValues "handles::another_tables_value_is_refused",
    /// A duplicate has all rights, whatever was asked for.
    GrantsMoreThanAsked "handles::an_equal_has_the_rights_asked_for",
    /// More rights than there are give fewer, and no refusal.
    GrantsSilentlyLess "handles::never_silently_less",
    /// Bits without a meaning are left out in silence.
    IgnoresReservedBits "handles::a_reserved_bit_is_refused",
    /// A refused replace closes the old handle, as Zircon does.
    RefusedReplaceCloses "handles::a_refused_replace_leaves_the_old_value",
    /// The old value stays valid after a replace.
    ReplaceKeepsTheOld "handles::replacing_invalidates_the_old_value",
    /// A new guest inherits though nobody asked.
    InheritsUnasked "handles::a_guest_inherits_what_is_inheritable",
    /// Renaming needs no right.
    RenamesWithoutRight "rights::directory_rename",
    /// Asking what a handle means needs a right.
    InfoNeedsARight "rights::directory_handle_info",
    /// Taking a name away needs one right too many.
    UnlinkNeedsMore "rights::directory_unlink",
    /// Missing rights are reported before the wrong type.
    AccessBeforeType "order::a_wrong_type_before_missing_rights",
    /// A bad name is reported before missing rights.
    NameBeforeAccess "order::missing_rights_before_a_bad_name",
    /// The second handle is looked at first.
    SecondHandleFirst "order::link_looks_at_the_directory_first",
    /// A full table is reported before a missing name.
    QuotaBeforeState "order::everything_else_before_the_quota",
    /// The sender keeps its handle.
    TransferKeeps "transfer::a_handle_moves",
    /// What could not move is lost, as in Zircon.
    RefusedTransferLoses "transfer::nothing_moves_to_the_dead",
    /// The receiver gets all rights.
    TransferGrantsAll "transfer::it_moves_with_fewer_rights",
    /// Revoking leaves the grandchildren.
    RevokeMissesGrandchildren "derivation::revoking_reaches_the_grandchildren",
    /// Revoking leaves what moved to other tables.
    RevokeMissesOtherTables "derivation::revoking_reaches_every_table",
    /// Revoking closes the handle itself.
    RevokeTakesItself "derivation::revoking_takes_what_was_derived",
    /// What is derived is an equal.
    DeriveIsDuplicate "derivation::a_handle_says_whether_it_is_derived",
    /// Every name is permanent.
    NameSurvives "names::a_name_goes_with_the_last_handle",
    /// A name grants all that its linker had.
    NameGrantsAll "names::a_name_grants_what_it_was_linked_with",
    /// Case makes no difference.
    FoldsCase "names::names_are_bytes",
    /// Long names are cut.
    CutsLongNames "names::a_name_has_up_to_255_bytes",
    /// Renaming replaces what has the new name.
    RenameReplaces "names::renaming_replaces_nothing",
    /// What must be new is opened if it is there.
    ExclusiveOpens "names::exclusive_refuses_a_taken_name",
    /// Everything that was opened is said to be new.
    SaysAllIsNew "names::open_or_create_makes_once",
    /// The expected type is not looked at.
    IgnoresTheType "names::another_type_is_refused",
    /// What leads above the start ends at the start.
    FollowsAbove "paths::no_link_leads_above_the_start",
    /// A link at the end is always followed.
    FollowsAlways "paths::a_link_at_the_end_is_followed_on_request",
    /// Empty names in a path are left out.
    IgnoresEmptyNames "paths::a_path_has_one_separator_between_names",
    /// A circle of links is not found, instead of refused as one.
    LoopIsNotFound "paths::a_link_to_itself_is_refused",
    /// A renamed entry comes last.
    RenameMovesToEnd "enumeration::a_rename_keeps_its_place",
    /// After a removal one entry is skipped.
    SkipsAfterRemoval "enumeration::removing_what_was_seen_skips_nothing",
    /// Listings begin anew after a new name.
    RestartsAfterLink "enumeration::a_new_name_comes_last",
    /// A listing of types begins with the second.
    FirstTypeIsMissing "providers::each_type_is_listed",
    /// A listing says that what it looked up is named.
    ListedIsNamed "providers::each_type_is_listed",
    /// Whoever looks up a job in the list may do all that a job can.
    ListedJobIsGranted "providers::what_is_listed_is_looked_at_alone",
    /// Permanent names are temporary.
    ForgetsPermanence "permanence::a_permanent_name_keeps_its_object",
    /// What has no name can be made permanent.
    NamelessIsPermanent "permanence::what_has_no_name_is_neither",
    /// The embedder is told twice of each guest.
    TellsTwice "jobs::the_embedder_is_told_once",
    /// The root job can be killed, or so it is said.
    KillsTheRoot "jobs::the_root_job_cannot_be_killed",
    /// The dead can still make objects.
    DeadMakeObjects "jobs::a_killed_guest_makes_no_calls",
    /// Depth is not looked at: the deepest job takes one that stands further out.
    NestsForEver "jobs::jobs_nest_32_deep",
    /// One more than the limit is given.
    QuotaOffByOne "quotas::not_one_handle_more",
    /// What is closed stays charged.
    ChargesStay "quotas::what_is_closed_can_be_had_again",
    /// A type's limit counts all objects.
    TypeLimitCountsAll "quotas::a_types_limit_is_that_types",
    /// A refused create leaves its object behind.
    RefusalLeaks "quotas::refused_for_the_handle_no_object_is_made",
    /// The charge stays where it was, or so it seems when that job ends.
    RechargeForgets "charges::what_moved_ends_with_its_new_job",
    /// Jobs can be moved, or so it is said.
    RechargeTakesJobs "charges::jobs_and_processes_do_not_move",
    /// The policy is not set.
    PolicyIsForgotten "policies::a_bad_handle_can_end_its_guest",
    /// The embedder is not told.
    BadHandlesGoUntold "policies::a_bad_handle_can_be_told",
    /// To give up what is gone is a bad handle.
    GivingUpIsACall "policies::giving_up_what_is_gone_is_nobodys_mistake",
    /// A section of nothing gets a byte.
    SectionOfNothing "sections::a_section_has_a_byte",
    /// Where there is too little memory for a section it is made smaller.
    SectionIsCut "sections::larger_than_memory_is_refused",
    /// A section that is made under a name takes the name from another one.
    NamedSectionIsReplaced "sections::a_section_is_opened_or_made_under_a_name",
    /// A part that is not within the section is cut.
    PartIsCut "sections::a_part_is_within_the_section",
    /// A bad part is reported before missing rights.
    PartBeforeAccess "sections::rights_before_the_part",
    /// What is mapped to be read can be written.
    WritesToReaders "sections::what_is_mapped_to_be_read_is_not_written",
    /// Unmapping does nothing.
    ViewsStay "sections::a_view_keeps_the_memory",
    /// One holder is not told.
    HolderIsMissing "questions::every_holder_is_told",
    /// A temporary name is told as a keeper.
    TemporaryNameKeeps "questions::a_temporary_name_keeps_nothing",
    /// The chain of derivation stops at the first.
    DerivedFromStops "questions::derivation_is_told_to_its_root",
    /// A user's type is told twice.
    HooksRunTwice "types::hooks_run_once_and_in_order",
    /// A create hook is not asked.
    RefusedIsMade "types::the_create_hook_can_refuse",
    /// Users' types all have one number.
    OwnTypeIsAnother "types::an_own_object_says_its_type",
    /// A name ends at its NUL byte.
    NameEndsAtNul "bad_input::a_name_with_a_nul_is_none",
    /// Types that nobody has match everything.
    UnknownTypeMatches "bad_input::an_unknown_type_is_expected_of_nothing",
    /// A second close hits the newest handle.
    DoubleCloseHurts "bad_input::a_double_close_hurts_nobody",
    /// Once inheritable, always inheritable.
    InheritableStays "events::inheriting_against_changing",
    /// A name that was taken away stays taken.
    UnlinkedNameStaysTaken "events::unlinking_against_the_last_close",
}

/// A subject with one mistake.
pub struct Broken<S> {
    inner: S,
    fault: Fault,
    start: Start,
    /// Values that mean another handle than the sound subject gave.
    aliases: Vec<(Koid, RawHandle, RawHandle)>,
    /// Closed values, to be given again.
    closed: Vec<(Koid, RawHandle)>,
    /// New handles, the newest last.
    newest: Vec<(Koid, RawHandle)>,
    /// What was derived or moved: its parent, itself, where it is and by which handle that process is reached.
    derived: Vec<Derived>,
    /// Directories in which a name was taken away since they were last listed.
    removed: Vec<Koid>,
    /// Directories that got a name since they were last listed.
    linked: Vec<Koid>,
    /// Names that were taken away.
    taken: Vec<(Koid, Vec<u8>)>,
    limits: Vec<(Koid, Resource, u64)>,
}

/// Something that was derived.
#[derive(Clone, Copy)]
struct Derived {
    process: Koid,
    handle: RawHandle,
    rights: Rights,
    /// Whether what it was derived from was derived.
    deep: bool,
    /// The maker's handle to the process where it is now, if it moved.
    moved_by: Option<RawHandle>,
}

impl<S: Subject> Subject for Broken<S> {
    type Options = (Fault, S::Options);

    type View = S::View;

    fn start((fault, options): Self::Options) -> Result<(Self, Start), CallError> {
        let (inner, start) = S::start(options)?;
        let broken = Self {
            inner,
            fault,
            start,
            aliases: Vec::new(),
            closed: Vec::new(),
            newest: Vec::new(),
            derived: Vec::new(),
            removed: Vec::new(),
            linked: Vec::new(),
            taken: Vec::new(),
            limits: Vec::new(),
        };
        Ok((broken, start))
    }

    fn call(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        let call = self.resolved(process, call);
        let result = self.before(process, call);
        self.after(process, call, result)
    }

    fn give_up(&mut self, process: Koid, handle: RawHandle) -> bool {
        match self.fault {
            Fault::GivingUpIsACall => self.inner.call(process, Call::Close { handle }).is_ok(),
            _ => self.inner.give_up(process, handle),
        }
    }

    fn live(&self) -> u64 {
        self.inner.live()
    }

    fn handles(&self, process: Koid) -> u64 {
        self.inner.handles(process)
    }

    fn limit(&mut self, owner: Koid, resource: Resource, limit: u64) {
        self.limits.retain(|(of, what, _)| (*of, *what) != (owner, resource));
        self.limits.push((owner, resource, limit));
        let (resource, limit) = match (self.fault, resource) {
            (Fault::QuotaOffByOne, _) => (resource, limit + 1),
            (Fault::TypeLimitCountsAll, Resource::ObjectsOf(_)) => (Resource::Objects, limit),
            _ => (resource, limit),
        };
        self.inner.limit(owner, resource, limit);
    }

    fn create_section(&mut self, process: Koid, size_bytes: u64) -> Result<RawHandle, CallError> {
        match self.fault {
            Fault::SectionOfNothing => self.inner.create_section(process, size_bytes.max(1)),
            Fault::SectionIsCut => {
                let whole = self.inner.create_section(process, size_bytes);
                whole.or_else(|_| self.inner.create_section(process, size_bytes.min(4096)))
            }
            _ => self.inner.create_section(process, size_bytes),
        }
    }

    fn open_or_create_section(
        &mut self,
        process: Koid,
        directory: RawHandle,
        name: &[u8],
        size_bytes: u64,
        exclusive: bool,
    ) -> Result<(RawHandle, bool), CallError> {
        match self.fault {
            Fault::NamedSectionIsReplaced => {
                // As who first makes it and then sees to the name.
                let _taken_away = self.inner.call(process, Call::Unlink { directory, name });
                self.inner.open_or_create_section(process, directory, name, size_bytes, exclusive)
            }
            _ => self.inner.open_or_create_section(process, directory, name, size_bytes, exclusive),
        }
    }

    fn map(&mut self, process: Koid, handle: RawHandle, part: Part, access: Access) -> Result<S::View, CallError> {
        match (self.fault, self.inner.map(process, handle, part, access)) {
            (Fault::PartIsCut, Err(CallError::BadRange { size_bytes, .. })) => {
                let offset_bytes = part.offset_bytes.min(size_bytes.saturating_sub(1));
                let size_bytes = part.size_bytes.clamp(1, size_bytes - offset_bytes);
                self.inner.map(process, handle, Part { offset_bytes, size_bytes }, access)
            }
            (Fault::PartBeforeAccess, Err(CallError::AccessDenied { koid, .. })) if part.size_bytes == 0 => {
                Err(CallError::BadRange { koid, part, size_bytes: 0 })
            }
            (Fault::WritesToReaders, Ok(view)) if access == Access::Read => {
                let writable = self.inner.map(process, handle, part, Access::ReadWrite);
                if writable.is_ok() {
                    self.inner.unmap(&view);
                }
                writable.or(Ok(view))
            }
            (_, result) => result,
        }
    }

    fn unmap(&mut self, view: &S::View) {
        if self.fault != Fault::ViewsStay {
            self.inner.unmap(view);
        }
    }

    fn read(&self, view: &S::View, offset_bytes: u64, into: &mut [u8]) -> Result<(), ViewError> {
        self.inner.read(view, offset_bytes, into)
    }

    fn write(&self, view: &S::View, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError> {
        self.inner.write(view, offset_bytes, from)
    }

    fn create_own(&mut self, process: Koid, number: u64) -> Result<RawHandle, CallError> {
        let asked = if self.fault == Fault::RefusedIsMade { number.max(1) } else { number };
        self.inner.create_own(process, asked)
    }

    fn system_directory(&mut self, process: Koid) -> Result<RawHandle, CallError> {
        self.inner.system_directory(process)
    }

    fn own_type(&self) -> TypeNumber {
        self.inner.own_type()
    }

    fn hooks(&mut self) -> Vec<(Hook, u64)> {
        let told = self.inner.hooks();
        if self.fault == Fault::HooksRunTwice { told.iter().flat_map(|hook| [*hook, *hook]).collect() } else { told }
    }

    fn memories(&self) -> (usize, usize) {
        self.inner.memories()
    }

    fn bad_handles(&mut self) -> Vec<(Koid, RawHandle)> {
        let told = self.inner.bad_handles();
        if self.fault == Fault::BadHandlesGoUntold { Vec::new() } else { told }
    }

    fn killed(&mut self) -> Vec<Koid> {
        let told = self.inner.killed();
        if self.fault == Fault::TellsTwice { told.iter().flat_map(|koid| [*koid, *koid]).collect() } else { told }
    }

    fn end(self) -> Result<(), String> {
        self.inner.end()
    }
}

impl<S: Subject> Broken<S> {
    /// The call with the handles that the sound subject knows.
    fn resolved<'a>(&self, process: Koid, call: Call<'a>) -> Call<'a> {
        with_handles(call, |handle| {
            let alias = self.aliases.iter().rev().find(|(of, value, _)| (*of, *value) == (process, handle));
            alias.map_or(handle, |(_, _, real)| *real)
        })
    }

    /// What a handle means, if anything.
    fn info(&mut self, process: Koid, handle: RawHandle) -> Option<kobj_core::HandleInfo> {
        match self.inner.call(process, Call::HandleInfo { handle }) {
            Ok(CallAnswer::Info(info)) => Some(info),
            _ => None,
        }
    }

    /// Which object a handle means, if any.
    fn koid(&mut self, process: Koid, handle: RawHandle) -> Option<Koid> {
        Some(self.info(process, handle)?.koid)
    }
}

/// The call with other handles.
fn with_handles<'a>(call: Call<'a>, f: impl Fn(RawHandle) -> RawHandle) -> Call<'a> {
    let mut call = call;
    match &mut call {
        Call::Close { handle }
        | Call::Duplicate { handle, .. }
        | Call::Replace { handle, .. }
        | Call::Derive { handle, .. }
        | Call::Revoke { handle }
        | Call::HandleInfo { handle }
        | Call::SetInheritable { handle, .. }
        | Call::Kill { handle }
        | Call::SetPermanent { handle, .. }
        | Call::ReadLink { handle }
        | Call::Why { handle }
        | Call::Holders { handle }
        | Call::KeptBy { handle }
        | Call::DerivedFrom { handle }
        | Call::CreateJob { job: handle }
        | Call::SetQuota { handle, .. }
        | Call::SetBadHandlePolicy { job: handle, .. }
        | Call::CreateGuest { job: handle, .. }
        | Call::Unlink { directory: handle, .. }
        | Call::Rename { directory: handle, .. }
        | Call::Open { directory: handle, .. }
        | Call::OpenOrCreate { directory: handle, .. }
        | Call::Enumerate { directory: handle, .. } => *handle = f(*handle),
        Call::Transfer { handle, process: other, .. } | Call::Link { directory: handle, handle: other, .. } => {
            *handle = f(*handle);
            *other = f(*other);
        }
        Call::Recharge { handle, from, to } => [handle, from, to].into_iter().for_each(|handle| *handle = f(*handle)),
        _ => {}
    }
    call
}
