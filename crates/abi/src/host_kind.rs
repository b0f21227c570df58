//! Kinds of host objects and the words of evidence about them. Names are those of the JSON report and never change.

/// A kind of Linux kernel object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum HostKind {
    /// A process, with its threads.
    Process = 1,
    /// A regular file in /dev/shm, hugetlbfs or a configured segment folder.
    Segment = 2,
    /// A named POSIX semaphore (`/dev/shm/sem.NAME`).
    PosixSemaphore = 3,
    /// A POSIX message queue.
    PosixQueue = 4,
    /// A System V shared memory segment.
    SysvSegment = 5,
    /// A System V semaphore set.
    SysvSemaphore = 6,
    /// A System V message queue.
    SysvQueue = 7,
    /// A unix socket bound to a path.
    UnixSocket = 8,
    /// A unix socket bound to an abstract name.
    AbstractSocket = 9,
    /// A listening TCP or bound UDP socket.
    Listener = 10,
    /// A lock file, or an advisory lock on a file.
    LockFile = 11,
    /// A file that holds a process id.
    PidFile = 12,
    /// A file made in a temporary folder.
    TemporaryFile = 13,
    /// A folder made in a temporary folder, with its tree.
    TemporaryFolder = 14,
    /// A symbolic link made in a temporary folder.
    SymbolicLink = 15,
    /// A device node.
    DeviceNode = 16,
    /// A named pipe.
    Fifo = 17,
    /// A mount.
    Mount = 18,
    /// A namespace kept alive by a bind mount or a process.
    Namespace = 19,
    /// A network interface.
    NetworkDevice = 20,
    /// A loop device with a backing file.
    LoopDevice = 21,
    /// A device-mapper device.
    MapperDevice = 22,
    /// A control group.
    Cgroup = 23,
    /// A key in a kernel keyring.
    Key = 24,
    /// A pinned BPF object.
    Bpf = 25,
    /// A container known to a container engine.
    Container = 26,
}

impl HostKind {
    /// Every value, in the order of its number.
    pub const ALL: [Self; 26] = [
        Self::Process,
        Self::Segment,
        Self::PosixSemaphore,
        Self::PosixQueue,
        Self::SysvSegment,
        Self::SysvSemaphore,
        Self::SysvQueue,
        Self::UnixSocket,
        Self::AbstractSocket,
        Self::Listener,
        Self::LockFile,
        Self::PidFile,
        Self::TemporaryFile,
        Self::TemporaryFolder,
        Self::SymbolicLink,
        Self::DeviceNode,
        Self::Fifo,
        Self::Mount,
        Self::Namespace,
        Self::NetworkDevice,
        Self::LoopDevice,
        Self::MapperDevice,
        Self::Cgroup,
        Self::Key,
        Self::Bpf,
        Self::Container,
    ];

    /// What makes the plural of its name: several are found in the directory `segments`, `processes`.
    #[must_use]
    pub const fn plural_ending(self) -> &'static str {
        match self {
            Self::Process => "es",
            _ => "s",
        }
    }

    /// The name in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Segment => "segment",
            Self::PosixSemaphore => "posix-semaphore",
            Self::PosixQueue => "posix-queue",
            Self::SysvSegment => "sysv-segment",
            Self::SysvSemaphore => "sysv-semaphore",
            Self::SysvQueue => "sysv-queue",
            Self::UnixSocket => "unix-socket",
            Self::AbstractSocket => "abstract-socket",
            Self::Listener => "listener",
            Self::LockFile => "lock-file",
            Self::PidFile => "pid-file",
            Self::TemporaryFile => "temporary-file",
            Self::TemporaryFolder => "temporary-folder",
            Self::SymbolicLink => "symbolic-link",
            Self::DeviceNode => "device-node",
            Self::Fifo => "fifo",
            Self::Mount => "mount",
            Self::Namespace => "namespace",
            Self::NetworkDevice => "network-device",
            Self::LoopDevice => "loop-device",
            Self::MapperDevice => "mapper-device",
            Self::Cgroup => "cgroup",
            Self::Key => "key",
            Self::Bpf => "bpf",
            Self::Container => "container",
        }
    }

    /// The value of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.name() == name)
    }

    /// The value of that number, as stored.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|value| *value as u8 == number)
    }

    /// The kind's class, where no output rule says otherwise.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::LockFile
            | Self::PidFile
            | Self::TemporaryFile
            | Self::TemporaryFolder
            | Self::SymbolicLink
            | Self::DeviceNode
            | Self::Fifo => Class::Temporary,
            Self::Process
            | Self::Segment
            | Self::PosixSemaphore
            | Self::PosixQueue
            | Self::SysvSegment
            | Self::SysvSemaphore
            | Self::SysvQueue
            | Self::UnixSocket
            | Self::AbstractSocket
            | Self::Listener
            | Self::Mount
            | Self::Namespace
            | Self::NetworkDevice
            | Self::LoopDevice
            | Self::MapperDevice
            | Self::Cgroup
            | Self::Key
            | Self::Bpf
            | Self::Container => Class::Runtime,
        }
    }
}

/// What a leftover is to its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Has a meaning only while its makers run.
    Runtime = 1,
    /// Scratch files and folders; lock and pid files.
    Temporary = 2,
    /// What the job was meant to leave: never touched, never news.
    Output = 3,
}

impl Class {
    /// Every value, in the order of its number.
    pub const ALL: [Self; 3] = [Self::Runtime, Self::Temporary, Self::Output];

    /// The name in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Temporary => "temporary",
            Self::Output => "output",
        }
    }

    /// The value of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.name() == name)
    }

    /// The value of that number, as stored.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|value| *value as u8 == number)
    }
}

/// How a process holds an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum HoldHow {
    /// An open file descriptor.
    Descriptor = 1,
    /// A memory mapping.
    Map = 2,
    /// An attached System V segment.
    Attach = 3,
    /// An advisory lock.
    Lock = 4,
    /// A mount on it or from it.
    Mount = 5,
    /// Working or root folder.
    Cwd = 6,
    /// A listening socket.
    Listen = 7,
}

impl HoldHow {
    /// Every value, in the order of its number.
    pub const ALL: [Self; 7] =
        [Self::Descriptor, Self::Map, Self::Attach, Self::Lock, Self::Mount, Self::Cwd, Self::Listen];

    /// The name in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Descriptor => "descriptor",
            Self::Map => "map",
            Self::Attach => "attach",
            Self::Lock => "lock",
            Self::Mount => "mount",
            Self::Cwd => "cwd",
            Self::Listen => "listen",
        }
    }

    /// The value of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.name() == name)
    }

    /// The value of that number, as stored.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|value| *value as u8 == number)
    }
}

/// How much a piece of evidence is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Strength {
    /// Allows a deletion, together with the judge's word.
    Proof = 1,
    /// Worth reporting, never enough for a deletion.
    Hint = 2,
}

impl Strength {
    /// Every value, in the order of its number.
    pub const ALL: [Self; 2] = [Self::Proof, Self::Hint];

    /// The name in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::Hint => "hint",
        }
    }

    /// The value of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.name() == name)
    }

    /// The value of that number, as stored.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|value| *value as u8 == number)
    }
}

/// A layer of watching, as listed in the report's `tracing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Layer {
    /// Before and after looks at what exists.
    Census = 1,
    /// The environment cookie.
    Cookie = 2,
    /// Parenthood, with kobj as child subreaper.
    Ancestry = 3,
    /// The creator pid that the kernel keeps with a segment.
    SysvCreator = 4,
    /// The kernel's process connector: the exact family tree.
    Connector = 5,
    /// File events with their maker's pid.
    Fanotify = 6,
    /// File events and an immediate look.
    Inotify = 7,
    /// An in-kernel tracer.
    Kernel = 8,
    /// A seccomp notifier.
    Exact = 9,
}

impl Layer {
    /// Every value, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::Census,
        Self::Cookie,
        Self::Ancestry,
        Self::SysvCreator,
        Self::Connector,
        Self::Fanotify,
        Self::Inotify,
        Self::Kernel,
        Self::Exact,
    ];

    /// The name in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Census => "census",
            Self::Cookie => "cookie",
            Self::Ancestry => "ancestry",
            Self::SysvCreator => "sysv-creator",
            Self::Connector => "connector",
            Self::Fanotify => "fanotify",
            Self::Inotify => "inotify",
            Self::Kernel => "kernel",
            Self::Exact => "exact",
        }
    }

    /// The value of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.name() == name)
    }

    /// The value of that number, as stored.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|value| *value as u8 == number)
    }
}

/// What a piece of evidence rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EvidenceKind {
    /// Membership of the job's control group.
    Cgroup = 1,
    /// The environment cookie.
    Cookie = 2,
    /// Parenthood.
    Ancestry = 3,
    /// The exact family tree of the process connector.
    Family = 4,
    /// A file event with its maker.
    Fanotify = 5,
    /// A file event and an immediate look.
    Inotify = 6,
    /// The segment's creator pid.
    SysvCreator = 7,
    /// It was not there before.
    Difference = 8,
    /// What the kernel, as judge, said of its use.
    Unused = 9,
    /// A person named it.
    Person = 10,
    /// It lies inside a folder that the job made.
    InnerFolder = 11,
}

impl EvidenceKind {
    /// Every value, in the order of its number.
    pub const ALL: [Self; 11] = [
        Self::Cgroup,
        Self::Cookie,
        Self::Ancestry,
        Self::Family,
        Self::Fanotify,
        Self::Inotify,
        Self::SysvCreator,
        Self::Difference,
        Self::Unused,
        Self::Person,
        Self::InnerFolder,
    ];

    /// The name in reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Cookie => "cookie",
            Self::Ancestry => "ancestry",
            Self::Family => "connector",
            Self::Fanotify => "fanotify",
            Self::Inotify => "inotify",
            Self::SysvCreator => "sysv-creator",
            Self::Difference => "difference",
            Self::Unused => "judge",
            Self::Person => "person",
            Self::InnerFolder => "folder",
        }
    }

    /// The value of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.name() == name)
    }

    /// The value of that number, as stored.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|value| *value as u8 == number)
    }
}
