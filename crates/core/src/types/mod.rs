//! The object types, and the registry that has one line for each.
//!
//! A type's file has the same sections in the same order: what is asked for (`Request`), what a question is answered with
//! (`Detail`), what is stored (`Image`), the state (`State`) and its layout, the procedures, the operations, the tests.
//! No type's file imports another's: what concerns two types is the manager's.

use crate::command::Ticket;
use crate::error::CreateError;
use kobj_abi::{LinkKind, ObjectType};
use kobj_memory::NoMemory;

pub mod directory;
pub mod host_object;
pub mod job;
pub mod process;
pub mod section;
pub mod symbolic_link;
pub mod type_object;

/// The procedures of one object type; `docs/add-a-type.md` says when each is called.
pub(crate) trait Type: Sized {
    /// What is asked for.
    type Request;
    /// What a question is answered with.
    type Detail;
    /// What is stored.
    type Image;

    /// Whether it lives in a job alone; else one may also stand outside of all jobs.
    const NEEDS_JOB: bool;
    /// Links that may start at an object of this type.
    const SOURCE_OF: &'static [LinkKind];
    /// Links that may end at one.
    const TARGET_OF: &'static [LinkKind];

    /// Makes the state. Nothing was changed yet: an error leaves no trace.
    fn create(request: Self::Request) -> Result<Self, CreateError>;
    /// Takes the state of an object whose tag was taken. Cannot fail.
    fn delete(self);
    /// Answers a question.
    fn query(&self) -> Result<Self::Detail, NoMemory>;
    /// Gives what is stored.
    fn image(&self) -> Result<Self::Image, NoMemory>;
    /// Bytes kept out of line, for the charge.
    fn charge_bytes(&self) -> u32;
    /// The effect that is under way on it; a type whose objects are destroyed by no effect has none.
    fn ticket(&self) -> Option<Ticket> {
        None
    }
    /// The effect under way did not destroy it: it is as it was before.
    fn restore(&mut self) {}
}

/// The procedure table of one object type.
pub(crate) struct Procedures {
    pub(crate) object_type: ObjectType,
    pub(crate) needs_job: bool,
    pub(crate) source_of: &'static [LinkKind],
    pub(crate) target_of: &'static [LinkKind],
    pub(crate) create: fn(Request) -> Result<State, CreateError>,
    pub(crate) delete: fn(State),
    pub(crate) query: fn(&State) -> Result<Option<Detail>, NoMemory>,
    pub(crate) image: fn(&State) -> Result<Option<Image>, NoMemory>,
    pub(crate) charge_bytes: fn(&State) -> u32,
}

/// Each line of the registry makes a variant in each sum of types and a row in the table.
macro_rules! registry {
    ($($name:ident => $module:ident,)*) => {
        /// What to make.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Request {
            $(#[doc = concat!("See [`", stringify!($module), "`].")] $name($module::Request),)*
        }

        /// What an object's type says of it.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        #[expect(clippy::large_enum_variant, reason = "one is made for a question and moved once")]
        pub enum Detail {
            $(#[doc = concat!("See [`", stringify!($module), "`].")] $name($module::Detail),)*
        }

        /// What is stored of an object.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Image {
            $(#[doc = concat!("See [`", stringify!($module), "`].")] $name($module::Image),)*
        }

        /// An object's state.
        #[derive(Debug)]
        pub(crate) enum State {
            $($name($module::State),)*
        }

        impl Request {
            /// The type of what is asked for.
            #[must_use]
            pub fn object_type(&self) -> ObjectType {
                match self {
                    $(Self::$name(_) => ObjectType::$name,)*
                }
            }
        }

        impl State {
            pub(crate) fn object_type(&self) -> ObjectType {
                match self {
                    $(Self::$name(_) => ObjectType::$name,)*
                }
            }
        }

        impl State {
            /// The effect under way.
            pub(crate) fn ticket(&self) -> Option<Ticket> {
                match self {
                    $(Self::$name(state) => Type::ticket(state),)*
                }
            }

            /// Memory that the platform has for it, in bytes.
            pub(crate) fn platform_bytes(&self) -> u64 {
                match self {
                    Self::Section(section) => section.size_bytes,
                    _ => 0,
                }
            }

            /// The effect under way did not destroy it.
            pub(crate) fn restore(&mut self) {
                match self {
                    $(Self::$name(state) => Type::restore(state),)*
                }
            }
        }

        /// The registry, in the order of the types' numbers.
        static REGISTRY: [Procedures; ObjectType::ALL.len()] = [$(Procedures {
            object_type: ObjectType::$name,
            needs_job: <$module::State as Type>::NEEDS_JOB,
            source_of: <$module::State as Type>::SOURCE_OF,
            target_of: <$module::State as Type>::TARGET_OF,
            create: |request| match request {
                Request::$name(request) => <$module::State as Type>::create(request).map(State::$name),
                other => Err(CreateError::NeedsJob { object_type: other.object_type() }),
            },
            delete: |state| if let State::$name(state) = state { <$module::State as Type>::delete(state) },
            query: |state| match state {
                State::$name(state) => Ok(Some(Detail::$name(<$module::State as Type>::query(state)?))),
                _ => Ok(None),
            },
            image: |state| match state {
                State::$name(state) => Ok(Some(Image::$name(<$module::State as Type>::image(state)?))),
                _ => Ok(None),
            },
            charge_bytes: |state| match state {
                State::$name(state) => <$module::State as Type>::charge_bytes(state),
                _ => 0,
            },
        }),*];
    };
}

registry! {
    Job => job,
    Process => process,
    HostObject => host_object,
    Directory => directory,
    SymbolicLink => symbolic_link,
    Section => section,
    Type => type_object,
}

/// The procedure table of a type.
pub(crate) fn procedures(object_type: ObjectType) -> &'static Procedures {
    let table = &REGISTRY[object_type as usize - 1];
    debug_assert!(table.object_type == object_type);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_a_page_in_the_documents() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/objects");
        for object_type in ObjectType::ALL {
            let page = folder.join(std::format!("{}.md", object_type.name()));
            assert!(page.is_file(), "no {}", page.display());
        }
    }

    #[test]
    fn the_registry_is_in_the_order_of_the_types_numbers() {
        for object_type in ObjectType::ALL {
            assert_eq!(procedures(object_type).object_type, object_type);
        }
    }
}
