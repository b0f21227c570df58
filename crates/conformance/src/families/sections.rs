//! Sections: memory of a fixed size that many map, and that goes with the last handle, name and view.

use crate::calls::*;
use crate::row::rows;
use crate::world::{holds, same};
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{
    AccessDenied, BadArgument, BadHandle, Dying, NameExists, NoMemory, NotFound, Quota, WrongType,
};
use kobj_abi::section::Access::{Read, ReadWrite};
use kobj_abi::section::{Part, ViewError};
use kobj_abi::{ObjectType, Rights};
use kobj_core::{CallError, Resource};

const GIBIBYTE: u64 = 1 << 30;

rows! { Sections:
    /// A section has at least a byte. [Zircon zx_vmo_create takes 0; ours does not]
    refusal fn a_section_has_a_byte(w) {
        let me = w.first;
        w.no_section(me, 0, BadArgument)?;
        w.section(me, 1)?;
    }

    /// Larger than what there is: refused before anything is taken.
    /// [Linux memfd_create(2) takes any size, and the OOM killer comes]
    refusal fn larger_than_memory_is_refused(w) {
        let me = w.first;
        for size_bytes in [GIBIBYTE, 1 << 50, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
            w.no_section(me, size_bytes, NoMemory)?;
        }
        w.section(me, 1 << 20)?;
    }

    /// New memory is all zeroes. [Zircon zx_vmo_create; Linux memfd_create(2)]
    plain fn new_memory_is_zero(w) {
        let me = w.first;
        for _ in 0..3 {
            let section = w.section(me, 5000)?;
            let view = w.map(me, section, (0, 5000), ReadWrite)?;
            same(w.read(&view, 0, 5000), Ok(alloc::vec![0; 5000]))?;
            same(w.write(&view, 0, &[0xff; 5000]), Ok(()))?;
            w.unmap(&view);
            w.done(me, close(section))?;
        }
    }

    /// What one view writes another one reads. [NT ZwMapViewOfSection; Linux mmap(2): MAP_SHARED]
    plain fn views_share_their_bytes(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let (one, two) = (w.map(me, section, (0, 100), ReadWrite)?, w.map(me, section, (0, 100), Read)?);
        same(w.write(&one, 33, b"written"), Ok(()))?;
        same(w.read(&two, 33, 7), Ok(b"written".to_vec()))?;
        same(w.read(&two, 32, 1), Ok(Vec::from([0])))?;
        same(w.read(&two, 40, 1), Ok(Vec::from([0])))?;
    }

    /// Another process sees the same bytes. [NT ZwCreateSection: shared by handle]
    plain fn processes_share_their_bytes(w) {
        let me = w.first;
        let guest = w.guest()?;
        let section = w.section(me, 64)?;
        let there = w.share(section, guest)?;
        let (mine, theirs) = (w.map(me, section, (0, 64), Read)?, w.map(guest.process, there, (0, 64), ReadWrite)?);
        same(w.write(&theirs, 0, b"hello"), Ok(()))?;
        same(w.read(&mine, 0, 5), Ok(b"hello".to_vec()))?;
    }

    /// A part is within the section and not empty. [NT ZwMapViewOfSection; Zircon zx_vmar_map: ZX_ERR_OUT_OF_RANGE]
    refusal fn a_part_is_within_the_section(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let koid = w.koid(me, section)?;
        for (offset_bytes, size_bytes) in
            [(0, 0), (0, 101), (100, 1), (99, 2), (50, 0), (u64::MAX, 1), (u64::MAX, u64::MAX), (1, u64::MAX), (200, 1)]
        {
            let part = Part { offset_bytes, size_bytes };
            w.unmapped(me, section, (offset_bytes, size_bytes), Read, BadArgument)?;
            let error = w.tries_to_map(me, section, (offset_bytes, size_bytes), ReadWrite).map(drop);
            same(error, Err(CallError::BadRange { koid, part, size_bytes: 100 }))?;
        }
        w.map(me, section, (99, 1), Read)?;
    }

    /// A view begins where its part does. [NT ZwMapViewOfSection: SectionOffset]
    plain fn a_view_begins_where_its_part_does(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let whole = w.map(me, section, (0, 100), ReadWrite)?;
        let part = w.map(me, section, (10, 5), ReadWrite)?;
        same(w.write(&part, 0, b"abcde"), Ok(()))?;
        same(w.read(&whole, 9, 7), Ok(b"\0abcde\0".to_vec()))?;
    }

    /// Nothing is read or written past a view's end, though the section goes on. [Linux mmap(2): SIGSEGV or SIGBUS]
    refusal fn nothing_is_touched_past_the_view(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let (whole, part) = (w.map(me, section, (0, 100), Read)?, w.map(me, section, (10, 20), ReadWrite)?);
        for (offset_bytes, length) in [(0, 21), (20, 1), (19, 2), (u64::MAX, 1), (u64::MAX - 1, 4)] {
            let (length_bytes, view_bytes) = (length as u64, 20);
            let error = ViewError::OutOfRange { offset_bytes, length_bytes, view_bytes };
            same(w.read(&part, offset_bytes, length), Err(error))?;
            same(w.write(&part, offset_bytes, &alloc::vec![1; length]), Err(error))?;
        }
        same(w.read(&whole, 0, 100), Ok(alloc::vec![0; 100]))?;
    }

    /// What is mapped to be read is not written.
    /// [NT ZwMapViewOfSection: PAGE_READONLY; Zircon zx_vmar_map: ZX_VM_PERM_READ]
    refusal fn what_is_mapped_to_be_read_is_not_written(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let view = w.map(me, section, (0, 100), Read)?;
        same(w.write(&view, 0, b"a"), Err(ViewError::ReadOnly))?;
        same(w.read(&view, 0, 1), Ok(Vec::from([0])))?;
    }

    /// A handle without MAP_WRITE maps to be read alone.
    /// [NT ZwCreateSection: SECTION_MAP_READ; Zircon zx_vmar_map: ZX_RIGHT_WRITE]
    refusal fn a_reading_handle_maps_to_be_read(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let reads = w.weaker(me, section, Rights::MAP_READ)?;
        let writes = w.weaker(me, section, Rights::MAP_WRITE)?;
        w.map(me, reads, (0, 100), Read)?;
        w.unmapped(me, reads, (0, 100), ReadWrite, AccessDenied)?;
        w.unmapped(me, writes, (0, 100), ReadWrite, AccessDenied)?;
        w.unmapped(me, writes, (0, 100), Read, AccessDenied)?;
    }

    /// A view keeps the memory, not the handle. [Linux mmap(2): a mapping references its file]
    order fn a_view_keeps_the_memory(w) {
        let me = w.first;
        let (live, memories) = (w.live(), w.memories());
        let section = w.section(me, 100)?;
        let view = w.map(me, section, (0, 100), ReadWrite)?;
        w.done(me, close(section))?;
        same(w.live(), live + 1)?;
        same(w.write(&view, 0, b"still"), Ok(()))?;
        same(w.read(&view, 0, 5), Ok(b"still".to_vec()))?;
        w.unmap(&view);
        same((w.live(), w.memories()), (live, memories))?;
    }

    /// The handle keeps the memory when the last view goes, and what was written. [NT ZwUnmapViewOfSection]
    order fn a_handle_keeps_the_memory(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let view = w.map(me, section, (0, 100), ReadWrite)?;
        same(w.write(&view, 0, b"kept"), Ok(()))?;
        w.unmap(&view);
        let view = w.map(me, section, (0, 4), Read)?;
        same(w.read(&view, 0, 4), Ok(b"kept".to_vec()))?;
    }

    /// A view is none after it was unmapped, and unmapping again does nothing. [Zircon zx_vmar_unmap]
    refusal fn an_unmapped_view_is_none(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let (view, other) = (w.map(me, section, (0, 100), ReadWrite)?, w.map(me, section, (0, 100), Read)?);
        w.unmap(&view);
        same(w.read(&view, 0, 1), Err(ViewError::Unmapped))?;
        same(w.write(&view, 0, b"a"), Err(ViewError::Unmapped))?;
        w.unmap(&view);
        same(w.read(&other, 0, 1), Ok(Vec::from([0])))?;
    }

    /// A guest's end takes its views. [Linux munmap(2): unmapped when the process is terminated]
    refusal fn a_guests_end_takes_its_views(w) {
        let me = w.first;
        let guest = w.guest()?;
        let (live, memories) = (w.live(), w.memories());
        let section = w.section(guest.process, 100)?;
        let view = w.map(guest.process, section, (0, 100), ReadWrite)?;
        w.done(guest.process, close(section))?;
        w.done(me, kill(guest.handle))?;
        same(w.read(&view, 0, 1), Err(ViewError::Unmapped))?;
        same((w.live(), w.memories()), (live, memories))?;
    }

    /// Another process's view keeps the memory when the maker ends. [NT life cycle of an object]
    order fn a_view_outlives_the_maker(w) {
        let me = w.first;
        let guest = w.guest()?;
        let there = w.share(w.root, guest)?;
        let made = w.section(guest.process, 100)?;
        w.done(guest.process, link(there, b"section", made))?;
        let section = w.gives(me, open(w.root, b"section"))?;
        let view = w.map(me, section, (0, 100), ReadWrite)?;
        w.done(me, kill(guest.handle))?;
        same(w.write(&view, 0, b"a"), Ok(()))?;
        w.done(me, close(section))?;
        same(w.read(&view, 0, 1), Ok(b"a".to_vec()))?;
    }

    /// A section can be named, opened with fewer rights, and mapped by whoever opened it.
    /// [NT ZwCreateSection: a named section]
    refusal fn a_section_is_opened_by_name(w) {
        let (me, root) = (w.first, w.root);
        let section = w.section(me, 100)?;
        w.done(me, link_most(root, b"section", section, only(Rights::MAP_READ)))?;
        let opened = w.gives(me, open_typed(root, b"section", ObjectType::Section))?;
        same(w.rights(me, opened)?, Rights::MAP_READ)?;
        w.map(me, opened, (0, 100), Read)?;
        w.unmapped(me, opened, (0, 100), ReadWrite, AccessDenied)?;
        w.refused(me, open_typed(root, b"section", ObjectType::Directory), WrongType)?;
    }

    /// Only a section is mapped. [Zircon zx_vmar_map: ZX_ERR_WRONG_TYPE]
    refusal fn only_a_section_is_mapped(w) {
        let (me, job, root) = (w.first, w.job, w.root);
        w.unmapped(me, job, (0, 1), Read, WrongType)?;
        w.unmapped(me, root, (0, 0), ReadWrite, WrongType)?;
        let gone = w.section(me, 1)?;
        w.done(me, close(gone))?;
        w.unmapped(me, gone, (0, 1), Read, BadHandle)?;
    }

    /// Missing rights before a bad part. [docs/semantics.md: the order of refusals]
    refusal fn rights_before_the_part(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let weak = w.weaker(me, section, Rights::INSPECT)?;
        w.unmapped(me, weak, (0, 0), Read, AccessDenied)?;
        w.unmapped(me, weak, (100, 1), ReadWrite, AccessDenied)?;
    }

    /// A revoked handle maps nothing more; what was mapped by it stays.
    /// [Linux mmap(2): closing the descriptor does not unmap]
    order fn a_view_outlives_the_revoke(w) {
        let me = w.first;
        let section = w.section(me, 100)?;
        let derived = w.gives(me, derive(section, SAME))?;
        let view = w.map(me, derived, (0, 100), ReadWrite)?;
        w.done(me, revoke(section))?;
        w.unmapped(me, derived, (0, 100), Read, BadHandle)?;
        same(w.write(&view, 0, b"a"), Ok(()))?;
    }

    /// The size is charged, and given back with the section. [NT ZwCreateSection: commit charge]
    refusal fn the_size_is_charged(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        w.done(me, set_quota(job, Resource::Bytes, 100_000))?;
        for _ in 0..5 {
            let section = w.section(guest.process, 60_000)?;
            w.no_section(guest.process, 60_000, Quota)?;
            w.done(guest.process, close(section))?;
        }
    }

    /// A section counts as an object and its handle as a handle: each can refuse it, and nothing is left.
    /// [docs/semantics.md: all or nothing]
    refusal fn a_refused_section_leaves_nothing(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let sections = Resource::ObjectsOf(ObjectType::Section.number());
        w.done(me, set_quota(job, sections, 0))?;
        w.no_section(guest.process, 100, Quota)?;
        w.done(me, set_quota(job, sections, 1))?;
        w.done(me, set_quota(guest.handle, Resource::Handles, 0))?;
        w.no_section(guest.process, 100, Quota)?;
        w.done(me, set_quota(guest.handle, Resource::Handles, 1))?;
        w.section(guest.process, 100)?;
    }

    /// A quota before the memory: what is over both is refused for the quota.
    /// [docs/semantics.md: the order of refusals]
    refusal fn the_quota_before_the_memory(w) {
        let me = w.first;
        let guest = w.guest()?;
        w.done(me, set_quota(guest.handle, Resource::Bytes, 100_000))?;
        w.no_section(guest.process, GIBIBYTE, Quota)?;
        w.no_section(guest.process, 0, BadArgument)?;
    }

    /// The dead make and map nothing. [docs/semantics.md: the caller first]
    refusal fn the_dead_make_and_map_nothing(w) {
        let me = w.first;
        let guest = w.guest()?;
        let section = w.section(guest.process, 100)?;
        w.done(me, kill(guest.handle))?;
        w.no_section(guest.process, 0, Dying)?;
        w.unmapped(guest.process, section, (0, 0), Read, Dying)?;
    }

    /// A named section's memory goes with its last handle. [NT ZwMakeTemporaryObject]
    order fn a_named_sections_memory_goes(w) {
        let (me, root) = (w.first, w.root);
        let memories = w.memories();
        let section = w.section(me, 100)?;
        w.done(me, link(root, b"section", section))?;
        w.done(me, close(section))?;
        same(w.memories(), memories)?;
        let section = w.section(me, 100)?;
        w.done(me, link_permanently(root, b"section", section))?;
        w.done(me, close(section))?;
        holds(w.memories() != memories, "a permanent name keeps it")?;
        w.done(me, unlink(root, b"section"))?;
        same(w.memories(), memories)?;
    }

    /// Under a name: what is there is opened, of whatever size it is, else one is made. [NT ZwCreateSection: OBJ_OPENIF]
    plain fn a_section_is_opened_or_made_under_a_name(w) {
        let (me, root) = (w.first, w.root);
        let guest = w.guest()?;
        let theirs = w.share(root, guest)?;
        let (first, created) = w.named_section(me, root, b"section", 100)?;
        let (second, again) = w.named_section(guest.process, theirs, b"section", GIBIBYTE)?;
        same((created, again), (true, false))?;
        same(w.koid(me, first)?, w.koid(guest.process, second)?)?;
        same(w.memories().0, 1)?;
        w.map(guest.process, second, (0, 100), ReadWrite)?;
        let opened = w.gives(me, open(root, b"section"))?;
        same(w.rights(me, opened)?, ObjectType::Section.default_rights())?;
    }

    /// A name that is taken is refused if it must be new, or is another type's; nothing is made. [Linux shm_open(3): EEXIST]
    refusal fn a_taken_name_is_no_new_sections(w) {
        let (me, root) = (w.first, w.root);
        let (section, _) = w.named_section(me, root, b"section", 100)?;
        let _directory = w.named(me, root, b"directory")?;
        w.no_named_section(me, (root, b"section"), 100, true, NameExists)?;
        w.no_named_section(me, (root, b"directory"), 100, true, NameExists)?;
        w.no_named_section(me, (root, b"directory"), 100, false, WrongType)?;
        w.done(me, unlink(root, b"section"))?;
        same(w.named_section(me, root, b"section", 100)?.1, true)?;
        w.done(me, close(section))?;
    }

    /// The order of refusals is that of any open-or-create: the handle, the name, the size, the name's state, quota and memory.
    /// [docs/semantics.md: the order of refusals]
    refusal fn a_named_section_is_refused_in_order(w) {
        let (me, root) = (w.first, w.root);
        let looks = w.weaker(me, root, Rights::LOOKUP)?;
        let makes = w.weaker(me, root, Rights::CREATE)?;
        w.no_named_section(me, (looks, b"a/b"), 0, false, AccessDenied)?;
        w.no_named_section(me, (looks, b"a/b"), 0, true, AccessDenied)?;
        w.no_named_section(me, (makes, b"a"), 100, false, AccessDenied)?;
        w.no_named_section(me, (w.job, b"a"), 100, false, WrongType)?;
        w.no_named_section(me, (root, b"a/b"), GIBIBYTE, false, BadArgument)?;
        let (_section, _) = w.named_section(me, root, b"taken", 100)?;
        w.no_named_section(me, (root, b"taken"), 0, true, BadArgument)?;
        w.no_named_section(me, (root, b"taken"), GIBIBYTE, true, NameExists)?;
        w.no_named_section(me, (root, b"free"), GIBIBYTE, false, NoMemory)?;
        w.refused(me, open(root, b"free"), NotFound)?;
        let guest = w.guest()?;
        let theirs = w.share(root, guest)?;
        w.done(me, set_quota(guest.handle, Resource::Bytes, 10_000))?;
        w.no_named_section(guest.process, (theirs, b"free"), GIBIBYTE, false, Quota)?;
        w.refused(me, open(root, b"free"), NotFound)?;
    }

    /// The name of a section that was made under it is temporary: it goes with the last handle, and the memory with it.
    /// [NT ZwCreateSection without OBJ_PERMANENT]
    order fn a_section_made_under_a_name_goes_with_its_last_handle(w) {
        let (me, root) = (w.first, w.root);
        let memories = w.memories();
        let (section, _) = w.named_section(me, root, b"section", 100)?;
        let (again, _) = w.named_section(me, root, b"section", 100)?;
        w.done(me, close(section))?;
        w.done(me, close(again))?;
        same(w.memories(), memories)?;
        w.refused(me, open(root, b"section"), NotFound)?;
        same(w.named_section(me, root, b"section", 100)?.1, true)?;
    }
}
