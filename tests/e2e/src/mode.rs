//! The three surroundings in which every program is run.

/// With which rights and in which namespaces a program and kobj run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Root of the machine: every layer can be had.
    Root,
    /// A user without rights: process connector where the kernel allows it, no fanotify.
    User,
    /// As in a container: a PID namespace of its own, no CAP_SYS_ADMIN, cgroups read-only: neither connector nor
    /// fanotify.
    Contained,
    /// As in a container without root: user, network, PID and mount namespaces, mounts allowed inside.
    Rootless,
}

/// The test user of [`Mode::User`]: nobody, on Debian and Ubuntu.
pub const USER: u32 = 65534;

impl Mode {
    /// The name in `table.toml`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "user",
            Self::Contained | Self::Rootless => "contained",
        }
    }

    /// Who owns the folders of a program in this mode.
    #[must_use]
    pub const fn uid(self) -> u32 {
        match self {
            Self::User => USER,
            _ => 0,
        }
    }

    /// What stands before `kobj run`.
    #[must_use]
    pub fn prefix(self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Root => &[],
            Self::User => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
            Self::Contained => {
                &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", CONTAIN, "sh"]
            }
            Self::Rootless => {
                &["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
            }
        };
        words.iter().map(ToString::to_string).collect()
    }

    /// What stands before a bystander: the same user, outside the container.
    #[must_use]
    pub fn bystander_prefix(self) -> Vec<String> {
        match self {
            Self::Root | Self::Contained => Vec::new(),
            Self::User | Self::Rootless => self.prefix(),
        }
    }

    /// How many processes stand between the one that was started and the one that follows the prefix.
    #[must_use]
    pub const fn forks(self) -> usize {
        match self {
            Self::Root | Self::User => 0,
            Self::Contained | Self::Rootless => 1,
        }
    }
}

/// Makes cgroups read-only, as container engines do, and drops the rights that containers do not have.
const CONTAIN: &str = r#"
while read -r _ where kind _; do
    case $kind in cgroup*) mount -o remount,bind,ro "$where" ;; esac
done </proc/self/mounts
exec setpriv --bounding-set=-sys_admin,-sys_ptrace,-bpf,-perfmon,-net_admin,-sys_resource "$@"
"#;
