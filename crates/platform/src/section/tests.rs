//! Sections against the kernel: seals, views, and that nothing of them stays.

use super::*;
use kobj_abi::Era;
use std::fs;

fn koid(counter: u32) -> Koid {
    Koid::new(Era(std::process::id()), counter).unwrap()
}

fn part(offset_bytes: u64, size_bytes: u64) -> Part {
    Part { offset_bytes, size_bytes }
}

/// Mappings of a section in this process.
fn mappings(koid: Koid) -> Vec<String> {
    let name = format!("/memfd:kobj:{koid} ");
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| format!("{line} ").contains(&name)).map(Into::into).collect()
}

/// Descriptors of a section in this process. Others come and go meanwhile.
fn descriptors(koid: Koid) -> usize {
    let name = format!("/memfd:kobj:{koid} (deleted)");
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == name.as_str())).count()
}

#[test]
fn the_size_is_sealed_and_so_are_the_seals() {
    let sections = Sections::default();
    sections.create(koid(1), 10_000, false).unwrap();
    let tables = sections.tables();
    let file = &tables.memories[&koid(1).raw()].file;
    for size in [9_999, 10_001, 0] {
        assert_eq!(rustix::fs::ftruncate(file, size), Err(Errno::PERM), "resized to {size}");
    }
    assert_eq!(rustix::fs::fcntl_add_seals(file, SealFlags::WRITE), Err(Errno::PERM));
    let stat = rustix::fs::fstat(file).unwrap();
    assert_eq!(stat.st_size, 10_000);
    if KNOWS_NOEXEC.load(Ordering::Relaxed) {
        assert_eq!(stat.st_mode & 0o111, 0, "it can be executed");
    } else {
        println!("skipped: NOEXEC_SEAL: this kernel does not know it");
    }
    assert!(rustix::io::fcntl_getfd(file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn memory_files_are_named_as_koids_are_printed() {
    for koid in [koid(1), koid(u32::MAX), Koid::new(Era(u32::MAX), 0xabc).unwrap()] {
        assert_eq!(name_of(koid), format!("kobj:{koid}\0").as_bytes());
    }
}

#[test]
fn pages_are_taken_at_once_or_when_they_are_touched() {
    let sections = Sections::default();
    sections.create(koid(2), 1 << 20, false).unwrap();
    sections.create(koid(3), 1 << 20, true).unwrap();
    assert_eq!(sections.allocated_bytes(koid(2)), Some(1 << 20));
    assert_eq!(sections.allocated_bytes(koid(3)), Some(0));
    let view = sections.map(koid(3), 1, part(0, 1 << 20), Access::ReadWrite).unwrap();
    view.write(500_000, b"x").unwrap();
    let taken = sections.allocated_bytes(koid(3)).unwrap();
    assert!(taken > 0 && taken < 1 << 20, "{taken}");
}

#[test]
fn views_show_the_same_bytes_wherever_they_begin() {
    let sections = Sections::default();
    sections.create(koid(4), 20_001, false).unwrap();
    let whole = sections.map(koid(4), 1, part(0, 20_001), Access::ReadWrite).unwrap();
    let tail = sections.map(koid(4), 2, part(4_097, 15_904), Access::Read).unwrap();
    whole.write(4_090, b"across a page, and to odd places").unwrap();
    let mut bytes = [0; 25];
    tail.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"a page, and to odd places".as_slice().get(..25).unwrap());
    whole.write(20_000, b"!").unwrap();
    let mut last = [0];
    tail.read(15_903, &mut last).unwrap();
    assert_eq!(&last, b"!");
    assert_eq!(tail.write(0, b"x"), Err(ViewError::ReadOnly));
    assert_eq!(tail.words().err(), Some(ViewError::ReadOnly));
    assert!(tail.read(15_903, &mut bytes).is_err() && whole.write(20_000, b"!!").is_err());
    assert!(mappings(koid(4)).iter().any(|line| line.contains(" r--s ")), "a view to be read is mapped so");
    let words = whole.words().unwrap();
    words[0].store(u64::from_ne_bytes(*b"eight by"), Ordering::Relaxed);
    assert_eq!(words.len(), 2_500);
    let mut bytes = [0; 8];
    whole.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"eight by");
}

#[test]
fn a_part_that_is_not_within_is_refused() {
    let sections = Sections::default();
    sections.create(koid(5), 4_096, false).unwrap();
    for bad in [part(0, 0), part(0, 4_097), part(4_096, 1), part(u64::MAX, 2)] {
        assert_eq!(sections.map(koid(5), 1, bad, Access::Read).err(), Some(SectionError::Unknown), "{bad:?}");
    }
    assert_eq!(sections.map(koid(6), 1, part(0, 1), Access::Read).err(), Some(SectionError::Unknown));
    assert_eq!(sections.counts(), (1, 0));
}

#[test]
fn a_closed_view_is_unmapped_when_the_last_access_has_ended() {
    let sections = Sections::default();
    sections.create(koid(7), 4_096, false).unwrap();
    let view = sections.map(koid(7), 1, part(0, 4_096), Access::ReadWrite).unwrap();
    let words = view.words().unwrap();
    sections.unmap(1);
    assert_eq!(view.read(0, &mut [0]), Err(ViewError::Unmapped));
    assert_eq!(view.write(0, &[0]), Err(ViewError::Unmapped));
    words[0].store(7, Ordering::Relaxed);
    assert_eq!((mappings(koid(7)).len(), words[0].load(Ordering::Relaxed)), (1, 7));
    drop(words);
    assert_eq!(mappings(koid(7)).len(), 0);
    drop(view);
    sections.unmap(1);
    assert_eq!((descriptors(koid(7)), sections.counts()), (1, (1, 0)));
    sections.destroy(koid(7));
    sections.destroy(koid(7));
    assert_eq!((descriptors(koid(7)), sections.counts()), (0, (0, 0)));
}

#[test]
fn views_outlive_the_descriptor_and_end_with_their_owner() {
    let sections = Sections::default();
    sections.create(koid(8), 4_096, false).unwrap();
    let view = sections.map(koid(8), 1, part(0, 4_096), Access::ReadWrite).unwrap();
    sections.destroy(koid(8));
    view.write(0, b"still").unwrap();
    drop(sections);
    assert_eq!(mappings(koid(8)).len(), 1);
    drop(view);
    assert_eq!(mappings(koid(8)).len(), 0);
}

#[test]
fn threads_that_look_while_a_view_ends_see_the_bytes_or_the_end() {
    let sections = Sections::default();
    sections.create(koid(9), 4_096, false).unwrap();
    for round in 0..200 {
        let view = sections.map(koid(9), round, part(0, 4_096), Access::ReadWrite).unwrap();
        view.write(0, &[5; 64]).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut bytes = [5; 64];
                    while view.read(0, &mut bytes).is_ok() {
                        assert_eq!(bytes, [5; 64]);
                    }
                });
            }
            scope.spawn(|| sections.unmap(round));
        });
        drop(view);
    }
    assert_eq!(mappings(koid(9)).len(), 0);
}

#[test]
fn what_no_file_can_be_is_refused() {
    let sections = Sections::default();
    assert_eq!(sections.create(koid(10), u64::MAX, true), Err(SectionError::NoMemory));
    assert_eq!((sections.counts(), descriptors(koid(10))), ((0, 0), 0));
}

#[test]
fn the_memory_of_all_falls_when_the_last_view_goes() {
    let shmem = || {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
        let line = meminfo.lines().find(|line| line.starts_with("Shmem:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    // Larger than what others who run beside this test take or give back meanwhile.
    const SIZE: u64 = 256 << 20;
    if Room::default().take(2 * SIZE).is_err() {
        println!("skipped: Shmem: too little memory");
        return;
    }
    let sections = Sections::default();
    sections.create(koid(11), SIZE, false).unwrap();
    let view = sections.map(koid(11), 1, part(0, SIZE), Access::Read).unwrap();
    sections.destroy(koid(11));
    let before = shmem();
    assert!(before >= SIZE, "the view keeps it");
    sections.unmap(1);
    drop(view);
    let after = shmem();
    assert!(after + SIZE / 2 < before, "{before} bytes before, {after} after");
}
