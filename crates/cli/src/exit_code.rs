//! How `kobj run` ends: the table of exit codes, as one pure function.

/// kobj's own failure: a wrong flag, a report that could not be written.
pub(crate) const OWN_FAILURE: u8 = 125;
/// The command was found but could not be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;
/// The time-out passed.
pub(crate) const TIMED_OUT: u8 = 124;
/// The time-out passed and SIGKILL was needed.
pub(crate) const TIMED_OUT_KILLED: u8 = 137;
/// `--fail-on-stragglers` without a code.
pub(crate) const STRAGGLERS: u8 = 123;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandEnd {
    /// It exited with that code.
    Exited(u8),
    /// A signal ended it.
    Signalled(i32),
    /// `--timeout` passed; `killed`: SIGKILL was needed.
    TimedOut {
        /// Whether SIGKILL was needed.
        killed: bool,
    },
}

/// Everything that decides how kobj itself ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunEnd {
    /// How the command ended.
    pub(crate) command: CommandEnd,
    /// A report that was asked for could not be written.
    pub(crate) report_failed: bool,
    /// A proved straggler was found: ended and scrubbed ones count, kept, ignored and unattributed ones do not.
    pub(crate) stragglers: bool,
    /// The code of `--fail-on-stragglers`, where given.
    pub(crate) fail_on_stragglers: Option<u8>,
    /// kobj is PID 1 of its namespace: no signal's default action ends it, so it exits 128+n instead.
    pub(crate) is_init: bool,
}

/// What kobj does last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Exit with that code.
    Exit(u8),
    /// Die by that signal, without a core file.
    DieBy(i32),
}

impl RunEnd {
    /// The table. The command's own failure always stands before what kobj has to say.
    pub(crate) fn finish(self) -> Finish {
        match self.command {
            CommandEnd::Exited(0) if self.report_failed => Finish::Exit(OWN_FAILURE),
            CommandEnd::Exited(0) if self.stragglers => Finish::Exit(self.fail_on_stragglers.unwrap_or(0)),
            CommandEnd::Exited(code) => Finish::Exit(code),
            CommandEnd::Signalled(signal) if self.is_init => Finish::Exit((128 + signal).clamp(1, 255) as u8),
            CommandEnd::Signalled(signal) => Finish::DieBy(signal),
            CommandEnd::TimedOut { killed: false } => Finish::Exit(TIMED_OUT),
            CommandEnd::TimedOut { killed: true } => Finish::Exit(TIMED_OUT_KILLED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(command: CommandEnd) -> RunEnd {
        RunEnd { command, report_failed: false, stragglers: false, fail_on_stragglers: None, is_init: false }
    }

    #[test]
    fn the_commands_end_is_passed_through() {
        for code in [0, 1, 7, 123, 124, 255] {
            assert_eq!(end(CommandEnd::Exited(code)).finish(), Finish::Exit(code));
        }
        assert_eq!(end(CommandEnd::Signalled(9)).finish(), Finish::DieBy(9));
    }

    #[test]
    fn a_timeout_is_124_and_137_if_kill_was_needed() {
        assert_eq!(end(CommandEnd::TimedOut { killed: false }).finish(), Finish::Exit(124));
        assert_eq!(end(CommandEnd::TimedOut { killed: true }).finish(), Finish::Exit(137));
    }

    #[test]
    fn stragglers_fail_only_where_asked_and_only_a_success() {
        let left = |command, fail_on_stragglers| RunEnd { stragglers: true, fail_on_stragglers, ..end(command) };
        assert_eq!(left(CommandEnd::Exited(0), None).finish(), Finish::Exit(0));
        assert_eq!(left(CommandEnd::Exited(0), Some(123)).finish(), Finish::Exit(123));
        assert_eq!(left(CommandEnd::Exited(3), Some(123)).finish(), Finish::Exit(3));
        assert_eq!(left(CommandEnd::Signalled(15), Some(123)).finish(), Finish::DieBy(15));
        let none = RunEnd { fail_on_stragglers: Some(123), ..end(CommandEnd::Exited(0)) };
        assert_eq!(none.finish(), Finish::Exit(0));
    }

    #[test]
    fn an_unwritten_report_fails_only_a_success() {
        let failed = |command| RunEnd { report_failed: true, ..end(command) };
        assert_eq!(failed(CommandEnd::Exited(0)).finish(), Finish::Exit(125));
        assert_eq!(failed(CommandEnd::Exited(2)).finish(), Finish::Exit(2));
        assert_eq!(failed(CommandEnd::Signalled(9)).finish(), Finish::DieBy(9));
    }

    #[test]
    fn pid_1_exits_128_and_the_signal() {
        let init = RunEnd { is_init: true, ..end(CommandEnd::Signalled(15)) };
        assert_eq!(init.finish(), Finish::Exit(143));
    }
}
