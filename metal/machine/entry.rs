//! From the loader's jump to safe code, and a panic's way out.

use crate::heap::Heap;
use crate::serial::{Serial, exit};
use core::arch::global_asm;
use core::fmt::Write;
use core::panic::PanicInfo;
use kobj_metal::Machine;

global_asm!(include_str!("entry.s"), options(att_syntax));
global_asm!(include_str!("symbols.s"), options(att_syntax));

#[global_allocator]
static HEAP: Heap = Heap::new();

/// What a loader that knows PVH leaves in memory; version 1 and later have the map.
#[repr(C)]
struct StartInformation {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    acpi_root: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

/// One range of the memory map.
#[repr(C)]
struct Range {
    start: u64,
    size: u64,
    /// 1: memory that is ours to use.
    kind: u32,
    reserved: u32,
}

const MAGIC: u32 = 0x336e_c578;
const MEMORY: u32 = 1;
/// `entry.s` maps as much.
const MAPPED_BYTES: u64 = 4 << 30;

/// Called by `entry.s` with what the loader left.
#[unsafe(no_mangle)]
extern "C" fn machine_start(information: *const StartInformation) -> ! {
    let Some((start, end)) = memory(information) else {
        let _ = writeln!(Serial, "metal: the loader left no memory map: boot by PVH, version 1 or later");
        exit(false)
    };
    // SAFETY: the range must be free memory, mapped one to one: the loader says that it is memory, it begins behind the
    // image and ends where `entry.s` stops mapping. A loader that puts modules there would break it; we ask for none.
    unsafe { HEAP.give(start, end) };
    let machine = Machine {
        live_bytes: || HEAP.live_bytes(),
        peak_bytes: || HEAP.peak_bytes(),
        refuse_after: |count| HEAP.refuse_after(count),
    };
    exit(kobj_metal::run(&machine, &mut Serial))
}

/// The largest range of memory behind the image.
fn memory(information: *const StartInformation) -> Option<(usize, usize)> {
    unsafe extern "C" {
        static image_end: u8;
    }
    // SAFETY: a readable `StartInformation` must stand there: PVH says so of the address in ebx, and all of it is
    // mapped. A loader without PVH would break it, and has no way to jump here.
    let information = unsafe { information.read() };
    if information.magic != MAGIC || information.version < 1 {
        return None;
    }
    let behind = (&raw const image_end).addr() as u64;
    let map: *const Range = core::ptr::with_exposed_provenance(usize::try_from(information.memory_map).ok()?);
    let ranges = (0..information.memory_map_entries as usize).map(|index| {
        // SAFETY: as many ranges must stand there as the start information says, which PVH promises of version 1 and
        // later. A map above what is mapped would break it; loaders put it below 4 GiB.
        unsafe { map.wrapping_add(index).read() }
    });
    let usable = ranges.filter(|range| range.kind == MEMORY).map(|range| {
        let end = range.start.saturating_add(range.size).min(MAPPED_BYTES);
        (range.start.max(behind), end)
    });
    let (start, end) = usable.filter(|(start, end)| start < end).max_by_key(|(start, end)| end - start)?;
    Some((usize::try_from(start).ok()?, usize::try_from(end).ok()?))
}

/// A check that failed, or a mistake: says which and ends the machine as failed.
#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Serial, "metal: {information}");
    exit(false)
}
