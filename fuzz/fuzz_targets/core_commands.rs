//! Arbitrary bytes as commands: no panic, the books right after each step, nothing half done.
//!
//! The first byte says how much work a step may do, so that commands also come in the middle of left-over work. Then every
//! eight bytes are a command. The target looks at the books, not at single replies: those are the reference model's.
#![no_main]

use kobj_abi::Era;
use kobj_core::image::Time;
use kobj_core::{Core, Limits};
use kobj_sim::Script;
use libfuzzer_sys::fuzz_target;

const ERA: Era = Era(100);
/// Longer inputs show nothing new and make each run slow.
const COMMANDS_MOST: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let Some((work, rest)) = bytes.split_first() else { return };
    let limits = Limits { work_per_step: u32::from(*work % 16) + 1, koids_per_era: 300, ..Limits::default() };
    let mut core = Core::with_limits(ERA, limits);
    let mut script = Script::new(ERA);
    for (at, chunk) in rest.as_chunks().0.iter().take(COMMANDS_MOST).enumerate() {
        let command = script.command(*chunk);
        let (reply, effects) = core.step(Time(at as i64), command.clone());
        script.note(&command, &reply, &effects);
        if let Err(refusal) = &reply {
            assert!(!refusal.to_string().is_empty());
        }
        if let Err(imbalance) = core.audit() {
            panic!("after {command:?}: {imbalance}");
        }
    }
    core.finish().expect("the books are right at the end");
});
