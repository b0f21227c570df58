//! Starting a command exactly as it would have started without a keeper: `clone3` into a control group, with a pidfd.

use crate::isolation::{Isolation, STEPS};
use crate::mask;
use crate::startup::{CHANGED, Inherited, inherited};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_void};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicI32, Ordering};

/// Where commands are looked for when PATH is unset, as the C library does.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// `CLONE_INTO_CGROUP` of the kernel's interface (the C binding's constant overflows its type).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A command made ready: after this nothing is allocated until the program runs.
#[derive(Debug)]
pub struct Launch {
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// A started command.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: u32,
    /// Refers to this very process, whatever becomes of the number.
    pub pidfd: OwnedFd,
}

/// Why a command did not start.
#[derive(Debug)]
pub enum SpawnError {
    /// No such program (a shell says 127).
    NotFound(io::Error),
    /// There, but not to be executed (a shell says 126).
    NotExecutable(io::Error),
    /// The control group refused the new process; nothing was started, and starting without it may work.
    GroupRefused(io::Error),
    /// The kernel refused a new process.
    Refused(io::Error),
    /// Own namespaces could not be had.
    NotIsolated {
        /// What failed, in words that follow "cannot".
        step: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl Launch {
    /// Makes `command` (program and arguments) ready with `environment` and the search path `path`.
    ///
    /// # Errors
    /// An argument or variable holds a NUL byte, or the command is empty.
    pub fn new(
        command: &[OsString],
        path: Option<&OsStr>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{what} holds a NUL byte"));
        let program = command.first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
        let arguments = command
            .iter()
            .map(|argument| CString::new(argument.as_bytes()).map_err(|_| invalid("an argument")))
            .collect::<io::Result<Vec<_>>>()?;
        let environment = environment
            .into_iter()
            .map(|(name, value)| {
                let mut line = name.into_vec();
                line.push(b'=');
                line.extend_from_slice(value.as_bytes());
                CString::new(line).map_err(|_| invalid("an environment variable"))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { candidates: candidates(program, path), arguments, environment })
    }

    /// Starts the command in this process's group, with what this process inherited restored in it.
    ///
    /// `group` is a folder descriptor of a cgroup v2 group to start in. Call it on a single-threaded process only:
    /// between the clone and the program the child, which shares its memory, calls async-signal-safe functions alone.
    ///
    /// # Errors
    /// See [`SpawnError`]; in each case no process is left.
    pub fn start(&self, group: Option<BorrowedFd<'_>>) -> Result<Child, SpawnError> {
        self.start_in(group, None)
    }

    /// The same in namespaces of its own, as their first process.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_isolated(
        &self,
        group: Option<BorrowedFd<'_>>,
        isolation: &Isolation<'_>,
    ) -> Result<Child, SpawnError> {
        self.start_in(group, Some(isolation))
    }

    /// Gives the program another first word than the path that it is found by.
    #[must_use]
    pub fn called(mut self, name: &std::ffi::CStr) -> Self {
        if let Some(first) = self.arguments.first_mut() {
            *first = name.to_owned();
        }
        self
    }

    fn start_in(&self, group: Option<BorrowedFd<'_>>, isolation: Option<&Isolation<'_>>) -> Result<Child, SpawnError> {
        let programs: Vec<*const c_char> = self.candidates.iter().map(|p| p.as_ptr()).collect();
        let arguments = pointers(&self.arguments);
        let environment = pointers(&self.environment);
        // A script without "#!" is run by the shell: sh PATH ARGUMENTS, PATH filled in by the child.
        let shell = c"/bin/sh";
        let mut script = vec![shell.as_ptr(), std::ptr::null()];
        script.extend_from_slice(&arguments[1..]);
        let (failure, step) = (AtomicI32::new(0), AtomicI32::new(NO_STEP));
        let mut plan = Plan {
            programs: &programs,
            arguments: &arguments,
            environment: &environment,
            script: &mut script,
            inherited: inherited(),
            isolation,
            failure: &failure,
            step: &step,
        };
        let mut stack = vec![Aligned([0; 16]); STACK_BYTES / size_of::<Aligned>()];
        let mut pidfd: c_int = -1;
        let mut flags = (libc::CLONE_PIDFD | libc::CLONE_VFORK | libc::CLONE_VM) as u64;
        flags |= isolation.map_or(0, Isolation::flags);
        let mut clone_arguments = libc::clone_args {
            flags: 0,
            pidfd: (&raw mut pidfd) as u64,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.as_mut_ptr() as u64,
            stack_size: STACK_BYTES as u64,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: 0,
        };
        if let Some(group) = group {
            flags |= CLONE_INTO_CGROUP;
            clone_arguments.cgroup = group.as_raw_fd() as u64;
        }
        clone_arguments.flags = flags;
        // SAFETY: duty: the structure, the stack, `pidfd` and all that `plan` refers to must outlive the child's use of them.
        // They live in this frame, which the kernel keeps suspended (CLONE_VFORK) until the child has executed a program
        // or ended. Leaving out that flag would break it.
        let answer = unsafe { clone_sharing_memory(&raw mut clone_arguments, child_main, (&raw mut plan).cast()) };
        if answer < 0 {
            let error = io::Error::from_raw_os_error(-answer as i32);
            return Err(refusal(error, group.is_some(), isolation.is_some()));
        }
        // SAFETY: duty: an open descriptor that nobody else owns. The kernel made it for us in the call above. Another use of
        // the number would break it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let child = Child { pid: answer as u32, pidfd };
        // Pairs with the child's release. The kernel has let this thread go on only after it, so any ordering would do.
        let code = failure.load(Ordering::Acquire);
        if code == 0 {
            return Ok(child);
        }
        reap(child.pid);
        let error = io::Error::from_raw_os_error(code);
        let step = usize::try_from(step.load(Ordering::Acquire)).ok().and_then(|step| STEPS.get(step));
        Err(match (step, code) {
            (Some(step), _) => SpawnError::NotIsolated { step, error },
            (None, libc::ENOENT | libc::ENOTDIR) => SpawnError::NotFound(error),
            (None, _) => SpawnError::NotExecutable(error),
        })
    }
}

/// What a refused clone means.
fn refusal(error: io::Error, in_group: bool, is_isolated: bool) -> SpawnError {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EBUSY | libc::EOPNOTSUPP | libc::ENODEV | libc::EINVAL) if in_group => {
            SpawnError::GroupRefused(error)
        }
        Some(libc::EAGAIN | libc::ENOMEM) => SpawnError::Refused(error),
        _ if is_isolated => SpawnError::NotIsolated { step: STEPS[0], error },
        _ => SpawnError::Refused(error),
    }
}

fn candidates(program: &OsStr, path: Option<&OsStr>) -> Vec<CString> {
    let name = program.as_bytes();
    let whole = |bytes: Vec<u8>| CString::new(bytes).ok();
    if name.contains(&b'/') || name.is_empty() {
        return whole(name.to_vec()).into_iter().collect();
    }
    let path = path.map_or(DEFAULT_PATH, OsStr::as_bytes);
    path.split(|byte| *byte == b':')
        .filter_map(|folder| {
            let mut whole_path = folder.to_vec();
            if !folder.is_empty() {
                whole_path.push(b'/');
            }
            whole_path.extend_from_slice(name);
            whole(whole_path)
        })
        .collect()
}

fn pointers(lines: &[CString]) -> Vec<*const c_char> {
    lines.iter().map(|line| line.as_ptr()).chain([std::ptr::null()]).collect()
}

/// All that the child needs, made before it exists.
struct Plan<'a> {
    programs: &'a [*const c_char],
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    script: &'a mut [*const c_char],
    inherited: Inherited,
    isolation: Option<&'a Isolation<'a>>,
    /// The error number of what failed; 0 while nothing has.
    failure: &'a AtomicI32,
    /// Which of [`STEPS`] failed.
    step: &'a AtomicI32,
}

/// No step of the isolation failed.
const NO_STEP: i32 = -1;

/// The child's stack: its few calls need a fraction of it.
const STACK_BYTES: usize = 16 << 10;

/// What a stack is made of, so that its ends are aligned as the ABI wants it.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Aligned(#[expect(dead_code, reason = "only its size and alignment count")] [u8; 16]);

/// Clones this process with `arguments`; the child runs `entry(argument)` on its own stack. Returns the child's pid, or
/// minus the error number.
///
/// # Safety
/// `arguments` names a stack, CLONE_VM and CLONE_VFORK; `argument` is what `entry` takes; `entry` calls nothing but
/// async-signal-safe functions, since it shares all memory with the suspended caller.
unsafe fn clone_sharing_memory(
    arguments: *mut libc::clone_args,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> i64 {
    let answer: i64;
    // SAFETY: the child never leaves the block: it is on a new stack, calls `entry` at once, and that does not return, so
    // nothing of the caller's frame is disturbed. The system call itself clobbers rax, rcx and r11 alone; they are not
    // shared with the inputs. It would break if `entry` returned, or if the child used the caller's stack.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {argument}",
            "call {entry}",
            "ud2",
            "2:",
            argument = in(reg) argument,
            entry = in(reg) entry,
            inlateout("rax") libc::SYS_clone3 => answer,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    answer
}

extern "C" fn child_main(plan: *mut c_void) -> ! {
    // SAFETY: duty: a Plan that nobody else uses meanwhile. `start` passes its own, and its thread is suspended. Another
    // caller of this function would break it.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    become_program(plan)
}

/// The child's side: restores what was inherited and executes. Never returns; calls async-signal-safe functions only.
fn become_program(plan: &mut Plan<'_>) -> ! {
    let Plan { programs, arguments, environment, script, inherited, isolation, failure, step } = plan;
    if let Some(Err((failed, error))) = isolation.map(Isolation::enter) {
        step.store(failed as i32, Ordering::Release);
        failure.store(error.raw_os_error(), Ordering::Release);
        // SAFETY: duty: none; it ends the child at once, and no destructor or exit handler of the parent's runs. `exit`
        // would break it.
        unsafe { libc::_exit(127) }
    }
    // Handlers fall back to the default by themselves, and what was ignored still is; what we changed is set right.
    for signal in CHANGED {
        let wanted = if inherited.ignored.contains(signal) { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: duty: a disposition that may run at any time. These two install no code; numbers that may not be set are
        // refused. A function of ours would break it.
        unsafe { libc::signal(signal, wanted) };
    }
    for stream in (0..3).filter(|stream| inherited.closed_streams & (1 << stream) != 0) {
        // SAFETY: duty: nobody else may own the number. The child has a table of its own (no CLONE_FILES), and it was closed
        // when the parent began. Sharing the table would break it.
        unsafe { libc::close(stream) };
    }
    // It cannot fail: the way of changing is a right one.
    let _ = mask::change(libc::SIG_SETMASK, inherited.blocked);
    let mut worst = libc::ENOENT;
    for program in programs.iter() {
        // SAFETY: duty: strings that end in NUL and arrays that end in null. `Launch` made them so, and they live in the
        // suspended frame of `start`. An array without its null would break it.
        unsafe { libc::execve(*program, arguments.as_ptr(), environment.as_ptr()) };
        match last_error() {
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV => {}
            libc::ENOEXEC => {
                script[1] = *program;
                // SAFETY: duty: as above. `script` ends in null, being a copy of the arguments with one more in front. Losing
                // its last entry would break it.
                unsafe { libc::execve(script[0], script.as_ptr(), environment.as_ptr()) };
                worst = last_error();
                break;
            }
            libc::EACCES => worst = libc::EACCES,
            other => {
                worst = other;
                break;
            }
        }
    }
    failure.store(worst, Ordering::Release);
    // SAFETY: duty: none; it ends the child at once, and no destructor or exit handler of the parent's runs. `exit` would
    // break it.
    unsafe { libc::_exit(127) }
}

fn last_error() -> c_int {
    // SAFETY: duty: none, it only gives the address; nothing would break it.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: duty: an initialised integer that nobody writes meanwhile. It is this thread's own errno. Reading it from
    // another thread would break it.
    unsafe { *location }
}

fn reap(pid: u32) {
    // SAFETY: duty: room for a status or null. It is null; the child has called `_exit`, so this does not wait long. A
    // pointer to anything else would break it.
    while unsafe { libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), 0) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(child: &Child) -> c_int {
        let mut status = 0;
        // SAFETY: duty: room for a status. It is a local; the pid is our own child. A null of another type would break it.
        unsafe { libc::waitpid(child.pid as libc::pid_t, &raw mut status, 0) };
        status
    }

    fn launch(command: &[&str]) -> Launch {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        Launch::new(&command, Some(OsStr::new("/usr/bin:/bin")), []).unwrap()
    }

    #[test]
    fn a_command_runs_and_its_status_comes_back() {
        let child = launch(&["sh", "-c", "exit 7"]).start(None).unwrap();
        assert_eq!(libc::WEXITSTATUS(status_of(&child)), 7);
    }

    #[test]
    fn what_cannot_run_is_told_apart() {
        assert!(matches!(launch(&["/no/such/program"]).start(None), Err(SpawnError::NotFound(_))));
        assert!(matches!(launch(&["no-such-program-anywhere"]).start(None), Err(SpawnError::NotFound(_))));
        assert!(matches!(launch(&["/etc/passwd"]).start(None), Err(SpawnError::NotExecutable(_))));
        assert!(matches!(launch(&[""]).start(None), Err(SpawnError::NotFound(_))));
        // There is such a name, or none could be looked for: as env says 126, not 127.
        let long = "x".repeat(300);
        for command in [long.as_str(), &format!("/{long}")] {
            assert!(matches!(launch(&[command]).start(None), Err(SpawnError::NotExecutable(_))), "{command}");
        }
        let path = std::env::temp_dir().join(format!("kobj-loop-{}", std::process::id()));
        std::os::unix::fs::symlink(&path, &path).unwrap();
        let refused = launch(&[path.to_str().unwrap()]).start(None);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(refused, Err(SpawnError::NotExecutable(_))));
    }

    #[test]
    fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
        let path = std::env::temp_dir().join(format!("kobj-script-{}", std::process::id()));
        std::fs::write(&path, "exit 9\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&path, mode).unwrap();
        let status = launch(&[path.to_str().unwrap()]).start(None).map(|child| status_of(&child));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(libc::WEXITSTATUS(status.unwrap()), 9);
    }

    #[test]
    fn a_nul_byte_is_an_error_and_not_a_shorter_argument() {
        assert!(Launch::new(&[OsString::from("a\0b")], None, []).is_err());
        assert!(Launch::new(&[], None, []).is_err());
    }
}
