//! Operations and the rights that they need: the one table that the check, the documents and the conformance rows read.

use crate::rights::RightsOf;
use crate::{ObjectType, Rights, TypeNumber};

macro_rules! operations {
    ($($(#[$text:meta])* $name:ident $words:literal,)*) => {
        /// What can be done with an object by a handle.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Operation {
            $($(#[$text])* $name,)*
        }

        impl Operation {
            /// Every operation, in the order of its number.
            pub const ALL: [Self; [$($words),*].len()] = [$(Self::$name),*];

            /// The words that people read.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }
    };
}

operations! {
    /// Give the handle up.
    Close "close",
    /// Exchange the handle for one with the same or fewer rights.
    Replace "replace",
    /// Ask which object the handle means, of what type, and with which rights.
    HandleInfo "handle-info",
    /// Make an equal handle with the same or fewer rights.
    Duplicate "duplicate",
    /// Make a handle that can be taken back.
    Derive "derive",
    /// Take back all that was derived.
    Revoke "revoke",
    /// Move the handle to another process.
    Transfer "transfer",
    /// Ask about the object.
    Inspect "inspect",
    /// Ask why the object lives.
    Why "why",
    /// Ask who holds the object.
    Holders "holders",
    /// Ask what the handle was derived from.
    DerivedFrom "derived-from",
    /// Ask what the object is kept by.
    KeptBy "kept-by",
    /// Name the object in a directory.
    Name "name",
    /// Name the object in a directory, permanently.
    NamePermanently "name-permanently",
    /// Make the object permanent or temporary.
    SetPermanent "set-permanent",
    /// Charge the object to another job.
    Recharge "recharge",
    /// Directory: give a name to an object.
    Link "link",
    /// Directory: take a name away.
    Unlink "unlink",
    /// Directory: give a named object another name.
    Rename "rename",
    /// Directory: make a handle to a named object.
    Open "open",
    /// Directory: make an object that must be new under its name.
    CreateNew "create-new",
    /// Directory: open what has the name, or make it.
    OpenOrCreate "open-or-create",
    /// Directory: list the names. Job: list the inner jobs and the processes.
    Enumerate "enumerate",
    /// Symbolic link: read where it leads.
    ReadLink "read-link",
    /// Section: map it to be read.
    Map "map",
    /// Section: map it to be read and written.
    MapWritable "map-writable",
    /// Job: make an inner job.
    CreateJob "create-job",
    /// Job: make a process in it.
    CreateProcess "create-process",
    /// Job, process: end it.
    Kill "kill",
    /// Job, process: set a quota.
    SetQuota "set-quota",
    /// Job: set a policy.
    SetPolicy "set-policy",
    /// Job: give up a charge, or take one over.
    MoveCharge "move-charge",
    /// Process: put a handle into its table.
    Receive "receive",
}

impl Operation {
    /// These rights as what the operation needs, to be printed: own ones are those of the one type that has it.
    #[must_use]
    pub fn named(self, rights: Rights) -> RightsOf {
        let has_own = |of: &ObjectType| {
            rights_needed(of.number(), self).is_some_and(|needed| !needed.intersection(Rights::OWN).is_empty())
        };
        rights.of(ObjectType::ALL.into_iter().find(has_own).map_or(TypeNumber(0), ObjectType::number))
    }
}

/// The rights that an operation needs on a handle to an object of that type; `None` if the type has no such operation,
/// which makes the handle one of the wrong type.
///
/// For each operation exactly these bits are enough, and each missing one is refused.
#[inline]
#[must_use]
pub const fn rights_needed(object_type: TypeNumber, operation: Operation) -> Option<Rights> {
    use Operation as O;
    let generic = match operation {
        O::Close | O::Replace | O::HandleInfo => Some(Rights::NONE),
        O::Duplicate | O::Derive | O::Revoke | O::Name => Some(Rights::DUPLICATE),
        O::NamePermanently => Some(Rights::DUPLICATE.union(Rights::MANAGE)),
        O::Transfer => Some(Rights::TRANSFER),
        O::Inspect | O::Why | O::Holders | O::DerivedFrom | O::KeptBy => Some(Rights::INSPECT),
        O::SetPermanent | O::Recharge => Some(Rights::MANAGE),
        _ => None,
    };
    if generic.is_some() {
        return generic;
    }
    match (object_type.built_in(), operation) {
        (Some(ObjectType::Directory), O::Link | O::CreateNew) => Some(Rights::CREATE),
        (Some(ObjectType::Directory), O::Unlink) => Some(Rights::REMOVE),
        (Some(ObjectType::Directory), O::Rename) => Some(Rights::MANAGE),
        (Some(ObjectType::Directory), O::Open) => Some(Rights::LOOKUP),
        (Some(ObjectType::Directory), O::OpenOrCreate) => Some(Rights::LOOKUP.union(Rights::CREATE)),
        (Some(ObjectType::Directory | ObjectType::Job), O::Enumerate) => Some(Rights::ENUMERATE),
        (Some(ObjectType::SymbolicLink), O::ReadLink) => Some(Rights::READ),
        (Some(ObjectType::Section), O::Map) => Some(Rights::MAP_READ),
        (Some(ObjectType::Section), O::MapWritable) => Some(Rights::MAP_READ.union(Rights::MAP_WRITE)),
        (Some(ObjectType::Job), O::CreateJob | O::CreateProcess) => Some(Rights::CREATE_CHILD),
        (Some(ObjectType::Job), O::SetPolicy | O::MoveCharge) => Some(Rights::MANAGE),
        (Some(ObjectType::Job | ObjectType::Process), O::Kill) => Some(Rights::DESTROY),
        (Some(ObjectType::Job | ObjectType::Process), O::SetQuota) => Some(Rights::MANAGE),
        (Some(ObjectType::Process), O::Receive) => Some(Rights::WRITE),
        _ => None,
    }
}

/// Why a handle does not allow an operation, in the order in which it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The type has no such operation.
    WrongType,
    /// The type has it, and the handle lacks these rights.
    AccessDenied {
        /// What is needed and not there.
        missing: Rights,
    },
}

/// The check: whether a handle with these rights to an object of that type allows the operation.
///
/// # Errors
/// [`Denied`]: a wrong type is reported before missing rights.
#[inline]
pub const fn check(object_type: TypeNumber, rights: Rights, operation: Operation) -> Result<(), Denied> {
    match rights_needed(object_type, operation) {
        None => Err(Denied::WrongType),
        Some(needed) if rights.contains(needed) => Ok(()),
        Some(needed) => Err(Denied::AccessDenied { missing: needed.without(rights) }),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn exactly_the_listed_rights_are_needed() {
        for object_type in ObjectType::ALL {
            for operation in Operation::ALL {
                let number = object_type.number();
                let Some(needed) = rights_needed(number, operation) else {
                    assert_eq!(check(number, Rights::from_bits(!0), operation), Err(Denied::WrongType));
                    continue;
                };
                assert_eq!(check(number, needed, operation), Ok(()));
                for bit in (0..32).map(|bit| Rights::from_bits(1 << bit)).filter(|bit| needed.contains(*bit)) {
                    let all_but_one = Rights::from_bits(!0).without(bit);
                    let denied = Err(Denied::AccessDenied { missing: bit });
                    assert_eq!(check(number, all_but_one, operation), denied, "{object_type:?} {operation:?}");
                }
            }
        }
    }

    #[test]
    fn the_own_rights_that_an_operation_needs_have_names() {
        for object_type in ObjectType::ALL {
            for operation in Operation::ALL {
                let Some(needed) = rights_needed(object_type.number(), operation) else { continue };
                let (by_type, by_operation) = (needed.of(object_type.number()), operation.named(needed));
                assert_eq!(std::format!("{by_type}"), std::format!("{by_operation}"), "{object_type:?} {operation:?}");
                assert!(!std::format!("{by_type}").contains("BIT"), "{object_type:?} {operation:?}: {by_type}");
            }
        }
    }

    #[test]
    fn whoever_makes_an_object_may_do_all_that_its_type_can() {
        for object_type in ObjectType::ALL {
            for operation in Operation::ALL {
                if let Some(needed) = rights_needed(object_type.number(), operation) {
                    assert!(object_type.default_rights().contains(needed), "{object_type:?} {operation:?}");
                }
            }
            assert!(object_type.default_rights().intersection(Rights::RESERVED).is_empty());
        }
    }

    /// The whole table once more, as the semantics have it: what stands in neither list is no operation of the type.
    #[test]
    fn the_table_is_what_it_is_said_to_be() {
        use Operation as O;
        const GENERIC: [(Operation, u32); 16] = [
            (O::Close, 0),
            (O::Replace, 0),
            (O::HandleInfo, 0),
            (O::Duplicate, 1),
            (O::Derive, 1),
            (O::Revoke, 1),
            (O::Name, 1),
            (O::NamePermanently, 0x101),
            (O::Transfer, 2),
            (O::Inspect, 0x40),
            (O::Why, 0x40),
            (O::Holders, 0x40),
            (O::DerivedFrom, 0x40),
            (O::KeptBy, 0x40),
            (O::SetPermanent, 0x100),
            (O::Recharge, 0x100),
        ];
        const OWN: [(ObjectType, Operation, u32); 19] = [
            (ObjectType::Directory, O::Link, 0x2_0000),
            (ObjectType::Directory, O::CreateNew, 0x2_0000),
            (ObjectType::Directory, O::Unlink, 0x4_0000),
            (ObjectType::Directory, O::Rename, 0x100),
            (ObjectType::Directory, O::Open, 0x1_0000),
            (ObjectType::Directory, O::OpenOrCreate, 0x3_0000),
            (ObjectType::Directory, O::Enumerate, 0x80),
            (ObjectType::SymbolicLink, O::ReadLink, 4),
            (ObjectType::Section, O::Map, 0x1_0000),
            (ObjectType::Section, O::MapWritable, 0x3_0000),
            (ObjectType::Job, O::Enumerate, 0x80),
            (ObjectType::Job, O::CreateJob, 0x1_0000),
            (ObjectType::Job, O::CreateProcess, 0x1_0000),
            (ObjectType::Job, O::SetPolicy, 0x100),
            (ObjectType::Job, O::MoveCharge, 0x100),
            (ObjectType::Job, O::Kill, 0x200),
            (ObjectType::Job, O::SetQuota, 0x100),
            (ObjectType::Process, O::Kill, 0x200),
            (ObjectType::Process, O::SetQuota, 0x100),
        ];
        for object_type in ObjectType::ALL {
            for operation in Operation::ALL {
                let generic = GENERIC.iter().find(|(of, _)| *of == operation).map(|(_, bits)| *bits);
                let own = OWN.iter().find(|(of, what, _)| (*of, *what) == (object_type, operation));
                let receive = (object_type == ObjectType::Process && operation == O::Receive).then_some(8);
                let bits = generic.or(own.map(|(_, _, bits)| *bits)).or(receive);
                let said = rights_needed(object_type.number(), operation).map(Rights::bits);
                assert_eq!(said, bits, "{object_type:?} {operation:?}");
            }
        }
    }

    #[test]
    fn a_users_type_has_the_generic_operations_alone() {
        let own = TypeNumber::FIRST_OWN;
        assert_eq!(rights_needed(own, Operation::Transfer), Some(Rights::TRANSFER));
        assert_eq!(rights_needed(own, Operation::Map), None);
    }
}
