//! The object slab: headers, tags, reference counts, the reaper.
#![no_std]
