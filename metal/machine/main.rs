//! The machine: entry, serial line, heap. The one place of this workspace with `unsafe`; the rest, `kobj_metal`, is
//! safe.
#![no_std]
#![no_main]

mod entry;
mod heap;
mod serial;
