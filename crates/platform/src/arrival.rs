//! Waiting until calls that are inside the kernel now have come out of it or to a place where they wait.
//!
//! There is no call for that, but there are two that come near. A thread that has run on a processor knows that whatever
//! was in the kernel there has left it, gone to sleep, or been put aside; and the kernel puts nobody aside inside a call
//! unless it was booted with full preemption (`preempt=full`). `membarrier(MEMBARRIER_CMD_GLOBAL)` waits for a grace
//! period of read-copy-update: on kernels without preemption the same, on others at least every processor's next tick, and
//! for those processors too that this thread may not run on.

use rustix::thread::CpuSet;

/// Waits, 10 to 20 ms as a rule, until system calls that began before have passed the short stretches in which they
/// neither sleep nor can be put aside.
///
/// Exact for kernels without full preemption on processors that this thread may run on; elsewhere merely long compared
/// with a call's few instructions. The thread's processors are what they were when this returns.
pub fn wait_for_calls_under_way() {
    visit_each_processor();
    // SAFETY: membarrier takes three numbers and touches no memory of ours. Broken by nothing: an unknown command or a
    // kernel that lacks it is answered with an error.
    let waited = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) } == 0;
    if !waited {
        // With `nohz_full=` the kernel refuses: as long as a grace period takes.
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
}

/// Runs for an instant on each processor that this thread may run on.
fn visit_each_processor() {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    for processor in (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)) {
        let mut only = CpuSet::new();
        only.set(processor);
        // A refusal means that it has gone offline; then nothing runs there either.
        let _ = rustix::thread::sched_setaffinity(None, &only);
    }
    let _ = rustix::thread::sched_setaffinity(None, &allowed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_ends_and_leaves_the_processors_as_they_were() {
        let before = rustix::thread::sched_getaffinity(None).expect("asked");
        wait_for_calls_under_way();
        assert_eq!(rustix::thread::sched_getaffinity(None).expect("asked"), before);
    }
}
