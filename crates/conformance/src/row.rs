//! A row of the suite.

use crate::families::rights;
use crate::subject::Subject;
use crate::world::{Outcome, World};
use alloc::format;
use alloc::string::String;
use core::fmt;
use kobj_abi::{ObjectType, Operation};

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Values and what they mean; close, duplicate, replace, inheritance.
    Handles,
    /// Which rights each operation needs of each type.
    Rights,
    /// Which refusal is reported where several are due.
    Order,
    /// Moving handles between processes.
    Transfer,
    /// Derivation and revocation.
    Derivation,
    /// Names in directories.
    Names,
    /// Paths and symbolic links.
    Paths,
    /// Listing directories.
    Enumeration,
    /// Directories that look up what they list.
    Providers,
    /// Permanent and temporary names.
    Permanence,
    /// Jobs, guests and their end.
    Jobs,
    /// Limits.
    Quotas,
    /// Which job pays.
    Charges,
    /// What a bad handle leads to.
    Policies,
    /// Memory that many map.
    Sections,
    /// Who holds, who keeps, and why.
    Questions,
    /// Users' own types.
    Types,
    /// Values from nowhere, and names that are none.
    BadInput,
    /// What happens in which order.
    Events,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 19] = [
        Self::Handles,
        Self::Rights,
        Self::Order,
        Self::Transfer,
        Self::Derivation,
        Self::Names,
        Self::Paths,
        Self::Enumeration,
        Self::Providers,
        Self::Permanence,
        Self::Jobs,
        Self::Quotas,
        Self::Charges,
        Self::Policies,
        Self::Sections,
        Self::Questions,
        Self::Types,
        Self::BadInput,
        Self::Events,
    ];

    /// The word before a row's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Handles => "handles",
            Self::Rights => "rights",
            Self::Order => "order",
            Self::Transfer => "transfer",
            Self::Derivation => "derivation",
            Self::Names => "names",
            Self::Paths => "paths",
            Self::Enumeration => "enumeration",
            Self::Providers => "providers",
            Self::Permanence => "permanence",
            Self::Jobs => "jobs",
            Self::Quotas => "quotas",
            Self::Charges => "charges",
            Self::Policies => "policies",
            Self::Sections => "sections",
            Self::Questions => "questions",
            Self::Types => "types",
            Self::BadInput => "bad_input",
            Self::Events => "events",
        }
    }
}

/// What a row looks for above all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "rows are written with these words")]
pub enum Nature {
    /// What is allowed does what it says.
    plain,
    /// What is not allowed is refused, so and not otherwise, and nothing has changed.
    refusal,
    /// Of two events, what each order of them leads to.
    order,
}

pub(crate) enum Run<S> {
    Function(fn(&mut World<S>) -> Outcome),
    Rights(ObjectType, Operation),
}

/// A row: a rule, and the calls that show whether it holds.
pub struct Row<S> {
    name: &'static str,
    family: Family,
    nature: Nature,
    rule: &'static str,
    run: Run<S>,
}

impl<S> fmt::Debug for Row<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("name", &self.name()).field("nature", &self.nature).finish_non_exhaustive()
    }
}

impl<S: Subject> Row<S> {
    pub(crate) fn new(
        family: Family,
        nature: Nature,
        name: &'static str,
        rule: &'static str,
        run: fn(&mut World<S>) -> Outcome,
    ) -> Self {
        Self { name, family, nature, rule, run: Run::Function(run) }
    }

    pub(crate) fn rights(object_type: ObjectType, operation: Operation) -> Self {
        let nature = rights::nature(object_type, operation);
        let rule = "Exactly the listed bits are enough, each missing one is refused. [Zircon rights]";
        Self { name: "", family: Family::Rights, nature, rule, run: Run::Rights(object_type, operation) }
    }

    /// What it looks for.
    #[must_use]
    pub fn nature(&self) -> Nature {
        self.nature
    }

    /// What it is about.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The rule and its public source.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule.trim()
    }

    /// Runs it on a subject of its own.
    ///
    /// # Errors
    /// What was done otherwise, in words.
    pub fn run(&self, options: S::Options) -> Outcome {
        let mut world = World::start(options)?;
        match self.run {
            Run::Function(function) => function(&mut world),
            Run::Rights(object_type, operation) => rights::run(&mut world, object_type, operation),
        }?;
        world.end()
    }
}

impl<S> Row<S> {
    /// Its name: family and rule in brief, unlike all others.
    #[must_use]
    pub fn name(&self) -> String {
        let word = self.family.word();
        match self.run {
            Run::Function(_) => format!("{word}::{}", self.name),
            Run::Rights(object_type, operation) => {
                format!("{word}::{}_{}", object_type.name(), operation.name()).replace('-', "_")
            }
        }
    }
}

/// Rows of one family: `/// Rule. [Source]`, a nature, a function of the world.
macro_rules! rows {
    ($family:ident: $($(#[doc = $rule:literal])+ $nature:ident fn $name:ident($world:ident) $body:block)*) => {
        $($(#[doc = $rule])+
        fn $name<S: $crate::Subject>($world: &mut $crate::World<S>) -> $crate::Outcome {
            $body
            Ok(())
        })*

        /// The rows of this family.
        pub(super) fn rows<S: $crate::Subject>(rows: &mut alloc::vec::Vec<$crate::Row<S>>) {
            $(rows.push($crate::Row::new(
                $crate::Family::$family,
                $crate::Nature::$nature,
                stringify!($name),
                concat!($($rule),+),
                $name,
            ));)*
        }
    };
}
pub(crate) use rows;
