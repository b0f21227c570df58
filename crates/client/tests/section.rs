//! Sections on Linux: shared, sealed, refused when they are too large, and gone with their last view.

use kobj::{Access, AskedRights, Create, Error, Manager, Rights, SectionOptions, ViewError};
use kobj_memory::RefusingAllocator;
use std::alloc::{Layout, System};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::Ordering;

#[global_allocator]
static ALLOCATOR: RefusingAllocator<System> = RefusingAllocator::new(System, refuse);

thread_local! {
    /// Allocations that were refused; `None` if all are given.
    static REFUSED: Cell<Option<u32>> = const { Cell::new(None) };
}

fn refuse(_: Layout) -> bool {
    REFUSED.set(REFUSED.get().map(|count| count + 1));
    REFUSED.get().is_some()
}

/// Mappings and descriptors of a section in this process. Its number is in the name of its memory file.
fn kept(koid: impl std::fmt::Display) -> (usize, usize) {
    let name = format!("/memfd:kobj:{koid} (deleted)");
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mappings = maps.lines().filter(|line| line.ends_with(&name)).count();
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    (mappings, links.filter(|link| link.as_os_str() == name.as_str()).count())
}

fn shmem_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let line = meminfo.lines().find(|line| line.starts_with("Shmem:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_section_is_opened_or_made_under_a_name_in_one_step() {
    let manager = Manager::embedded().unwrap();
    let root = manager.root_directory();
    let new = Create::new().exclusive();
    let (first, created) = root.create_section("frames", 10_000, new).unwrap();
    let (second, again) = root.create_section("frames", SectionOptions::new(1), Create::new()).unwrap();
    assert!(created && !again);
    assert_eq!(first.koid(), second.koid());
    assert_eq!(kept(first.koid().unwrap()), (0, 1));
    first.map(0..10_000, Access::ReadWrite).unwrap().write(0, b"hello").unwrap();
    let mut bytes = [0; 5];
    second.map(0..5, Access::Read).unwrap().read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    assert!(matches!(root.create_section("frames", 10_000, new), Err(Error::NameExists { .. })));
    let few = Create::new().rights(Rights::MAP_READ);
    let (third, _) = root.create_section("frames", 1, few).unwrap();
    assert!(matches!(third.map(0..1, Access::ReadWrite).map(drop), Err(Error::AccessDenied { .. })));
    let koid = first.koid().unwrap();
    drop((first, second, third));
    assert_eq!(kept(koid), (0, 0), "the name was temporary");
    assert!(root.create_section("frames", 1, new).unwrap().1);
    manager.audit().unwrap();
}

#[test]
fn two_guests_see_each_others_bytes_and_a_kill_unmaps_the_view() {
    let manager = Manager::embedded().unwrap();
    let job = manager.root_job().create_job().unwrap();
    let (first, second) = (job.create_guest().unwrap(), job.create_guest().unwrap());
    let section = first.caller().create_section(10_000).unwrap();
    let koid = section.koid().unwrap();
    let theirs = section.duplicate(AskedRights::Same).unwrap().transfer(&second).unwrap();
    let mine = section.map(0..10_000, Access::ReadWrite).unwrap();
    let their = theirs.map(5_001..10_000, Access::Read).unwrap();
    mine.write(5_001, b"hello").unwrap();
    let mut bytes = [0; 5];
    their.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    assert_eq!(their.write(0, b"x"), Err(ViewError::ReadOnly));
    assert!(matches!(their.read(4_999, &mut bytes), Err(ViewError::OutOfRange { view_bytes: 4_999, .. })));
    mine.words().unwrap()[0].store(u64::from_ne_bytes(*b"8 at 0ne"), Ordering::Release);
    assert_eq!(kept(koid), (2, 1));
    drop((section, theirs));
    assert_eq!(kept(koid), (2, 1), "views keep it");
    first.kill().unwrap();
    manager.audit().unwrap();
    assert_eq!(kept(koid), (1, 1));
    assert_eq!(mine.read(0, &mut bytes), Err(ViewError::Unmapped));
    assert_eq!(mine.words().err(), Some(ViewError::Unmapped));
    their.read(0, &mut bytes).unwrap();
    drop(their);
    assert_eq!(kept(koid), (0, 0), "the last view has gone");
    drop(mine);
    manager.audit().unwrap();
}

#[test]
fn parts_past_the_end_and_rights_that_are_missing_are_refused() {
    let manager = Manager::embedded().unwrap();
    let section = manager.caller().create_section(SectionOptions::new(4_096).lazy(true)).unwrap();
    #[expect(clippy::reversed_empty_ranges, reason = "one that ends before it begins is refused, too")]
    let bad = [0..0, 0..4_097, 4_096..4_097, 1..u64::MAX, 7..3];
    for bad in bad {
        assert!(matches!(section.map(bad.clone(), Access::Read), Err(Error::BadRange { .. })), "{bad:?}");
    }
    let reader = section.duplicate(Rights::MAP_READ).unwrap();
    assert!(matches!(reader.map(0..1, Access::ReadWrite), Err(Error::AccessDenied { .. })));
    reader.map(0..1, Access::Read).unwrap();
    assert!(matches!(manager.caller().create_section(0), Err(Error::EmptySection {})));
    drop((reader, section));
    manager.audit().unwrap();
}

#[test]
fn a_pebibyte_is_refused_at_once_and_nothing_is_allocated_for_it() {
    let manager = Manager::embedded().unwrap();
    let caller = manager.caller();
    let job = manager.root_job();
    for size_bytes in [1 << 50, u64::MAX] {
        for lazy in [false, true] {
            REFUSED.set(Some(0));
            let refused = caller.create_section(SectionOptions::new(size_bytes).lazy(lazy)).map(drop);
            let allocations = REFUSED.take();
            assert_eq!((refused, allocations), (Err(Error::NoMemory {}), Some(0)), "{size_bytes}, lazy {lazy}");
        }
    }
    assert_eq!(manager.live::<kobj::types::Section>(), 0);
    manager.audit().unwrap();
    drop(job);
}

#[test]
fn more_than_is_left_is_refused_though_there_is_so_much_memory() {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:")).unwrap();
    let total: u64 = line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
    let manager = Manager::embedded().unwrap();
    // The kernel and this program have some of it, so all of it is never left.
    for lazy in [false, true] {
        let refused = manager.caller().create_section(SectionOptions::new(total).lazy(lazy));
        assert!(matches!(refused, Err(Error::NoMemory {})), "{refused:?}");
    }
    manager.audit().unwrap();
}

#[test]
fn the_memory_of_the_system_falls_when_the_last_of_a_section_goes() {
    // Larger than what others who run beside this test take or give back meanwhile.
    const SIZE: u64 = 192 << 20;
    let manager = Manager::embedded().unwrap();
    let section = match manager.caller().create_section(SIZE) {
        Ok(section) => section,
        Err(error) => {
            println!("skipped: Shmem: {error}");
            return;
        }
    };
    let view = section.map(SIZE - 1..SIZE, Access::Read).unwrap();
    drop(section);
    let before = shmem_bytes();
    assert!(before >= SIZE, "one byte of it keeps all");
    drop(view);
    let after = shmem_bytes();
    assert!(after + SIZE / 2 < before, "{before} bytes before, {after} after");
    manager.audit().unwrap();
}

#[test]
fn threads_map_and_unmap_while_a_guest_is_killed() {
    let manager = Manager::embedded().unwrap();
    let job = manager.root_job().create_job().unwrap();
    for _ in 0..20 {
        let guest = job.create_guest().unwrap();
        let section = guest.caller().create_section(8_192).unwrap();
        let koid = section.koid().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Ok(view) = section.map(0..8_192, Access::ReadWrite) {
                        if view.write(8_000, &[1; 100]).is_err() {
                            break;
                        }
                    }
                });
                scope.spawn(|| while guest.caller().create_section(4_096).is_ok() {});
            }
            guest.kill().unwrap();
        });
        drop(section);
        manager.settle();
        assert_eq!(kept(koid), (0, 0));
    }
    assert_eq!(manager.live::<kobj::types::Section>(), 0);
    manager.audit().unwrap();
}
