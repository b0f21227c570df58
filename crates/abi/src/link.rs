//! Links: the typed edges of the object graph.

/// What a link says: "source KIND target".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LinkKind {
    /// A job contains a process, an inner job or a host object.
    Contains = 1,
    /// A process has the object open, mapped, attached or as its folder.
    Holds = 2,
    /// A process made the object.
    Owns = 3,
    /// A process waits on the object.
    WaitsOn = 4,
    /// One object is the storage of another.
    Backs = 5,
    /// One object is offered to peers by another.
    Exports = 6,
    /// A handle or object was derived from another.
    DerivedFrom = 7,
}

impl LinkKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 7] =
        [Self::Contains, Self::Holds, Self::Owns, Self::WaitsOn, Self::Backs, Self::Exports, Self::DerivedFrom];

    /// The words between source and target.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::Holds => "holds",
            Self::Owns => "owns",
            Self::WaitsOn => "waits-on",
            Self::Backs => "backs",
            Self::Exports => "exports",
            Self::DerivedFrom => "derived-from",
        }
    }
}
