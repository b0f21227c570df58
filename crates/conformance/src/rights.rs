//! The tables of rights as `docs/semantics.md` shows them, from the manager's own.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use kobj_abi::{ObjectType, Operation, Rights, rights_needed};

/// Rights in words, as of one type; `-` for none.
#[must_use]
pub fn words(object_type: ObjectType, rights: Rights) -> String {
    let mut names: Vec<String> = rights.generic_names().map(str::to_uppercase).collect();
    names.extend(
        object_type
            .own_rights()
            .iter()
            .filter(|(right, _)| rights.contains(*right))
            .map(|(_, name)| String::from(*name)),
    );
    if names.is_empty() { "-".into() } else { names.join(", ") }
}

/// The table of operations, a line each and for each set of rights.
#[must_use]
pub fn operations_table() -> String {
    let mut table = String::from("| operation | of | needs |\n|---|---|---|\n");
    for operation in Operation::ALL {
        let mut rest: Vec<ObjectType> = ObjectType::ALL.into_iter().collect();
        while let Some(first) = rest.first().copied() {
            let needed = rights_needed(first.number(), operation);
            let (like, other): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|of| rights_needed(of.number(), operation) == needed);
            rest = other;
            let Some(needed) = needed else { continue };
            let names: Vec<&str> = like.iter().map(|of| of.name()).collect();
            let of = if like.len() == ObjectType::ALL.len() { "every type".into() } else { names.join(", ") };
            // Writing to a string cannot fail.
            let _ = writeln!(table, "| {} | {of} | {} |", operation.name(), words(first, needed));
        }
    }
    table
}

/// The table of what makers get, a line for each type.
#[must_use]
pub fn defaults_table() -> String {
    let mut table = String::from("| type | rights |\n|---|---|\n");
    for of in ObjectType::ALL {
        let _ = writeln!(table, "| {} | {} |", of.name(), words(of, of.default_rights()));
    }
    table
}
