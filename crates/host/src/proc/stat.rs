//! `/proc/PID/stat`.

use super::{decimal, signed, words};

/// The kernel's flag of a thread of its own (`PF_KTHREAD`).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// What one line of `/proc/PID/stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Process id.
    pub pid: u32,
    /// Command name, as bytes: up to 15 of any value.
    pub command: Vec<u8>,
    /// State: `R`, `S`, `D`, `T`, `Z`...
    pub state: u8,
    /// Parent's process id; 0 if it is outside our PID namespace.
    pub parent: u32,
    /// Process group.
    pub group: u32,
    /// Session.
    pub session: u32,
    /// Controlling terminal's device number as the kernel packs it here; 0 if none.
    pub terminal: u32,
    /// The terminal's foreground process group; -1 if there is none.
    pub foreground: i32,
    /// The kernel's flags of the process.
    pub flags: u32,
    /// User and system time, in clock ticks.
    pub ticks: u64,
    /// Number of threads.
    pub threads: u32,
    /// Start time in clock ticks since boot.
    pub started: u64,
}

impl Stat {
    /// Whether it is a thread of the kernel itself.
    #[must_use]
    pub const fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// Whether it is dead, waiting to be reaped.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Reads the line. The command name may hold spaces, parentheses and newlines: it ends at the last parenthesis.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let command = text.get(open + 1..close)?.to_vec();
    let pid = u32::try_from(decimal(text.get(..open)?.trim_ascii())?).ok()?;
    let mut rest = words(text.get(close + 1..)?.trim_ascii());
    let state = *rest.next()?.first()?;
    let mut number = || signed_or_large(rest.next()?);
    let parent = u32::try_from(number()?).ok()?;
    let group = u32::try_from(number()?).ok()?;
    let session = u32::try_from(number()?).ok()?;
    let terminal = u32::try_from(number()?).ok()?;
    let foreground = i32::try_from(number()?).ok()?;
    let flags = u32::try_from(number()?).ok()?;
    for _ in 0..4 {
        number()?; // page faults
    }
    let ticks = u64::try_from(number()?.checked_add(number()?)?).ok()?;
    for _ in 0..4 {
        number()?; // children's times, priority, nice
    }
    let threads = u32::try_from(number()?).ok()?;
    number()?; // an unused zero
    let started = u64::try_from(number()?).ok()?;
    Some(Stat { pid, command, state, parent, group, session, terminal, foreground, flags, ticks, threads, started })
}

fn signed_or_large(word: &[u8]) -> Option<i128> {
    signed(word).map(i128::from).or_else(|| decimal(word).map(i128::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &[u8] = b" S 1 2 3 34816 -1 4194560 1 2 3 4 50 6 7 8 20 0 9 0 123456 1 2 3 18446744073709551615 1 1\n";

    fn with_name(name: &[u8]) -> Option<Stat> {
        parse(&[b"42 (", name, b")", TAIL].concat())
    }

    #[test]
    fn odd_command_names_do_not_shift_the_fields() {
        for name in [&b"cat"[..], b"", b") R 1 1", b"a b\n(c)", b"\xff\xfe", b"((", b"))"] {
            let stat = with_name(name).unwrap();
            assert_eq!(stat.command, name);
            assert_eq!((stat.pid, stat.state, stat.parent, stat.threads, stat.started), (42, b'S', 1, 9, 123_456));
            assert_eq!((stat.terminal, stat.foreground, stat.ticks), (34816, -1, 56));
        }
    }

    #[test]
    fn cut_lines_give_nothing() {
        let whole = [b"42 (cat)", TAIL].concat();
        let needed = whole.windows(6).position(|w| w == b"123456").unwrap();
        for end in 0..needed {
            assert_eq!(parse(&whole[..end]), None, "{end}");
        }
        assert_eq!(parse(b")("), None);
        assert_eq!(parse(b"x (a) S 1 2 3 4 5 6 7"), None);
    }

    #[test]
    fn the_kernels_own_threads_are_told() {
        let own = parse(&crate::proc::read(std::path::Path::new("/proc/self/stat"), 4096).unwrap()).unwrap();
        assert!(!own.is_kernel_thread() && !own.is_dead());
        assert_eq!(own.pid, std::process::id());
    }
}
