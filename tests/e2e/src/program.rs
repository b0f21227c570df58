//! The real programs: how each is started, how it says that it is ready, how it tears itself down, what it makes.

use crate::mode::Mode;
use crate::place::{Place, Room, own};
use crate::running::{End, Spec};
use crate::{build, installed};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// For whom a program is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The surroundings.
    pub mode: Mode,
    /// The test's place.
    pub place: &'a Place,
    /// The program's own folders.
    pub room: &'a Room,
    /// Counts the starts of one test from 0; the last one has the number of the first again (display numbers).
    pub number: u32,
}

/// One real program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in `table.toml`.
    pub name: &'static str,
    /// What must be installed for it.
    pub needs: &'static [&'static str],
    /// Which surroundings stand for a container.
    pub container: Mode,
    /// How to start it; `Err` says why it cannot be had here.
    pub spec: fn(&Setting) -> Result<Spec, String>,
    /// What it makes, with variables in braces: `path P`, `sysv-segment ID`, `sysv-semaphore ID`, `sysv-queue ID`,
    /// `abstract NAME`, `process PID`, `posix-queue TAG`, `mount PATH`, `loop-device PATH`, `namespace NAME`.
    pub makes: &'static [&'static str],
    /// Whether a first run lays something that the program keeps for good, even at a proper end.
    pub keeps: bool,
}

/// All programs, in the order of the README's table.
pub const ALL: [Program; 16] = [
    Program {
        name: "python-segment",
        needs: &["python3"],
        container: Mode::Contained,
        spec: |setting| python(setting, "segment.py"),
        makes: &["path {segment}"],
        keeps: false,
    },
    Program {
        name: "python-lock",
        needs: &["python3"],
        container: Mode::Contained,
        spec: |setting| python(setting, "lock.py"),
        makes: &["path {semaphore}"],
        keeps: false,
    },
    Program {
        name: "python-manager",
        needs: &["python3"],
        container: Mode::Contained,
        spec: |setting| python(setting, "manager.py"),
        makes: &["path {socket}", "path {folder}"],
        keeps: false,
    },
    Program {
        name: "python-pool",
        needs: &["python3"],
        container: Mode::Contained,
        spec: |setting| python(setting, "pool.py"),
        makes: &["path {segment}"],
        keeps: false,
    },
    Program {
        name: "postgresql",
        needs: &["setpriv"],
        container: Mode::Contained,
        spec: postgresql,
        makes: &["path {tmp}/.s.PGSQL.5432", "path {tmp}/.s.PGSQL.5432.lock", "path {tmp}/data/postmaster.pid"],
        keeps: false,
    },
    Program {
        name: "redis",
        needs: &["redis-server"],
        container: Mode::Contained,
        spec: redis,
        makes: &["path {tmp}/redis.sock", "path {tmp}/redis.pid"],
        keeps: false,
    },
    Program {
        name: "chromium",
        needs: &["chromium"],
        container: Mode::Contained,
        spec: chromium,
        makes: &[],
        keeps: false,
    },
    Program {
        name: "xvfb",
        needs: &["Xvfb"],
        container: Mode::Contained,
        spec: xvfb,
        makes: &["path /tmp/.X{display}-lock", "path /tmp/.X11-unix/X{display}", "abstract /tmp/.X11-unix/X{display}"],
        keeps: false,
    },
    Program {
        name: "tmux",
        needs: &["tmux"],
        container: Mode::Contained,
        spec: tmux,
        makes: &["path {socket}", "process {daemon}"],
        keeps: false,
    },
    Program {
        name: "ssh-agent",
        needs: &["ssh-agent"],
        container: Mode::Contained,
        spec: ssh_agent,
        makes: &["path {socket}", "path {folder}", "process {daemon}"],
        keeps: false,
    },
    Program {
        name: "daemon",
        needs: &["gcc"],
        container: Mode::Contained,
        spec: daemon,
        makes: &[
            "path {tmp}/{tag}.pid",
            "path {tmp}/{tag}.lock",
            "path {tmp}/{tag}.fifo",
            "path {tmp}/{tag}.sock",
            "path /dev/shm/{tag}",
            "path /dev/shm/sem.{tag}",
            "abstract {tag}",
            "posix-queue {tag}",
            "sysv-segment {shm}",
            "sysv-semaphore {sem}",
            "sysv-queue {msg}",
            "process {daemon}",
        ],
        keeps: false,
    },
    Program {
        name: "ipcmk",
        needs: &["ipcmk", "ipcrm"],
        container: Mode::Contained,
        spec: ipcmk,
        makes: &["sysv-segment {shm}", "sysv-semaphore {sem}", "sysv-queue {msg}"],
        keeps: false,
    },
    Program {
        name: "loop-mount",
        needs: &["losetup", "mkfs.ext4", "mount"],
        container: Mode::Contained,
        spec: loop_mount,
        makes: &["mount {tmp}/at", "loop-device {loop}"],
        keeps: false,
    },
    Program {
        name: "ip-netns",
        needs: &["ip"],
        container: Mode::Rootless,
        spec: ip_netns,
        makes: &["namespace {tag}"],
        keeps: false,
    },
    Program {
        name: "boost",
        needs: &["g++"],
        container: Mode::Contained,
        spec: boost,
        makes: &["path /dev/shm/{tag}-memory", "path /dev/shm/sem.{tag}-mutex", "path /dev/shm/{tag}-queue"],
        keeps: false,
    },
    Program {
        name: "iceoryx2",
        needs: &[],
        container: Mode::Contained,
        spec: iceoryx2,
        makes: &["path {tmp}/nodes"],
        keeps: true,
    },
];

/// The program of that name.
#[must_use]
pub fn find(name: &str) -> Option<Program> {
    ALL.into_iter().find(|program| program.name == name)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn python(setting: &Setting, script: &str) -> Result<Spec, String> {
    let script = text(&setting.place.root.join(script));
    Ok(Spec { argv: words(&["/usr/bin/python3", "-B", &script]), ready: "ready ".into(), ..Spec::default() })
}

/// A shell that runs `script`, whose last word is `read`'s: it goes on when the input closes.
fn shell(script: &str) -> Spec {
    Spec { argv: words(&["/bin/sh", "-c", script]), ready: "ready ".into(), ..Spec::default() }
}

/// The newest installed PostgreSQL's programs.
fn postgresql_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|entry| entry.path().join("bin")).filter(|folder| folder.join("postgres").exists()).max()
}

/// A user's id by name.
fn user_id(name: &str) -> Option<u32> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = passwd.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
    fields.nth(2)?.parse().ok()
}

/// The server with data made before the job (a database is no straggler) and its socket in TMPDIR.
fn postgresql(setting: &Setting) -> Result<Spec, String> {
    let programs = postgresql_programs().ok_or("postgresql is not installed")?;
    let (user, switch) = if setting.mode == Mode::User {
        (setting.mode.uid(), Vec::new())
    } else {
        let user = user_id("postgres").ok_or("there is no user postgres")?;
        (user, words(&["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]))
    };
    let data = setting.room.tmp.join("data");
    own(&setting.room.tmp, user).map_err(|error| error.to_string())?;
    let template = setting.place.root.join("database");
    if !template.exists() {
        fs::create_dir(&template).and_then(|()| own(&template, user)).map_err(|error| error.to_string())?;
        let ids = [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()];
        let mut command = Command::new("setpriv");
        command.args(ids).arg(programs.join("initdb")).current_dir("/");
        command.args(["--no-sync", "--auth=trust", "--username=test", "-D"]).arg(&template);
        let made = command.output().map_err(|error| error.to_string())?;
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    }
    let copied = Command::new("cp").arg("-a").arg(&template).arg(&data).status();
    assert!(copied.is_ok_and(|status| status.success()), "cannot copy the database");
    let mut argv = switch;
    argv.extend([text(&programs.join("postgres")), "-D".into(), text(&data), "-k".into(), text(&setting.room.tmp)]);
    argv.extend(words(&["-c", "listen_addresses=", "-c", "fsync=off"]));
    Ok(Spec { argv, ready: "ready to accept connections".into(), end: End::Terminate, ..Spec::default() })
}

fn redis(setting: &Setting) -> Result<Spec, String> {
    let (socket, pid) = (text(&setting.room.tmp.join("redis.sock")), text(&setting.room.tmp.join("redis.pid")));
    let home = text(&setting.room.home);
    let argv = words(&[
        "redis-server",
        "--port",
        "0",
        "--unixsocket",
        &socket,
        "--pidfile",
        &pid,
        "--dir",
        &home,
        "--save",
        "",
    ]);
    Ok(Spec { argv, ready: "eady to accept connections".into(), end: End::Terminate, ..Spec::default() })
}

fn chromium(setting: &Setting) -> Result<Spec, String> {
    let mut argv = words(&["chromium", "--headless", "--disable-gpu", "--remote-debugging-port=0"]);
    if setting.mode != Mode::User {
        argv.push("--no-sandbox".into());
    }
    argv.push("about:blank".into());
    Ok(Spec { argv, ready: "DevTools listening".into(), end: End::Terminate, ..Spec::default() })
}

/// A display number that no other test has; the folder of X sockets is the machine's, made at boot where there is one.
fn xvfb(setting: &Setting) -> Result<Spec, String> {
    use std::os::unix::fs::PermissionsExt;
    let folder = Path::new("/tmp/.X11-unix");
    if !folder.exists() {
        let open = || fs::set_permissions(folder, fs::Permissions::from_mode(0o1777));
        fs::create_dir(folder).and_then(|()| open()).map_err(|error| error.to_string())?;
    }
    let display = (1000 + (std::process::id() * 64 + setting.place.serial * 4) % 50_000 + setting.number).to_string();
    // Not with -displayfd, which leaves out the lock file.
    let argv = words(&["Xvfb", &format!(":{display}"), "-nolisten", "tcp"]);
    let ready = format!("path /tmp/.X11-unix/X{display}");
    Ok(Spec { argv, ready, variables: vec![("display".into(), display)], end: End::Terminate, ..Spec::default() })
}

fn tmux(setting: &Setting) -> Result<Spec, String> {
    let tmux = format!("tmux -L {} -f /dev/null", setting.room.tag);
    let mut spec = shell(&format!(
        "{tmux} new-session -d cat && echo ready $({tmux} display-message -p 'daemon=#{{pid}} socket=#{{socket_path}}'); \
         read end; {tmux} kill-server"
    ));
    // The user's own shell may be nologin.
    spec.environment.push(("SHELL".into(), "/bin/sh".into()));
    spec.environment.push(("TMUX_TMPDIR".into(), text(&setting.room.tmp)));
    Ok(spec)
}

fn ssh_agent(_: &Setting) -> Result<Spec, String> {
    Ok(shell(
        "eval \"$(ssh-agent -s)\" >/dev/null; \
         echo ready daemon=$SSH_AGENT_PID socket=$SSH_AUTH_SOCK folder=${SSH_AUTH_SOCK%/*}; \
         read end; ssh-agent -k >/dev/null",
    ))
}

/// Compiles a source once a place.
fn compiled(setting: &Setting, source: &str) -> Result<String, String> {
    let program = setting.place.root.join(source.split('.').next().unwrap_or(source));
    if program.exists() {
        return Ok(text(&program));
    }
    build::compile(&setting.place.root, source).map(|path| text(&path)).ok_or_else(|| "no compiler".into())
}

fn daemon(setting: &Setting) -> Result<Spec, String> {
    let argv = vec![compiled(setting, "daemon.c")?, text(&setting.room.tmp), setting.room.tag.clone()];
    Ok(Spec { argv, ready: "ready ".into(), ..Spec::default() })
}

fn ipcmk(_: &Setting) -> Result<Spec, String> {
    Ok(shell(
        "m=$(ipcmk -M 4096) s=$(ipcmk -S 1) q=$(ipcmk -Q); m=${m##* } s=${s##* } q=${q##* }; \
         echo ready shm=$m sem=$s msg=$q; read end; ipcrm -m $m -s $s -q $q",
    ))
}

fn loop_mount(_: &Setting) -> Result<Spec, String> {
    Ok(shell(
        "cd \"$TMPDIR\" && truncate -s 4M image && mkfs.ext4 -q image && mkdir at && \
         loop=$(losetup --find --show image) && mount $loop at && cd / && echo ready loop=$loop && ok=yes && read end; \
         [ -n \"$ok\" ] && umount \"$TMPDIR/at\"; losetup -d $loop; cd \"$TMPDIR\"; rmdir at; rm image; [ -n \"$ok\" ]",
    ))
}

fn ip_netns(setting: &Setting) -> Result<Spec, String> {
    let name = &setting.room.tag;
    Ok(shell(&format!("ip netns add {name} && echo ready && read end; ip netns delete {name}")).with_ready("ready"))
}

fn boost(setting: &Setting) -> Result<Spec, String> {
    if !Path::new("/usr/include/boost/interprocess").exists() {
        return Err("libboost-dev is not installed".into());
    }
    let argv = vec![compiled(setting, "boost.cpp")?, setting.room.tag.clone()];
    Ok(Spec { argv, ready: "ready".into(), ..Spec::default() })
}

fn iceoryx2(setting: &Setting) -> Result<Spec, String> {
    let here = setting.place.root.join("iceoryx2");
    if !here.exists() {
        build::iceoryx2(&setting.place.root).ok_or("its crates cannot be had here")?;
    }
    let argv = vec![text(&here), text(&setting.room.tmp), format!("{}_", setting.room.tag)];
    Ok(Spec { argv, ready: "ready ".into(), ..Spec::default() })
}

impl Spec {
    fn with_ready(mut self, ready: &str) -> Self {
        self.ready = ready.into();
        self
    }
}

/// Whether all that a program needs is installed; else what is not.
///
/// # Errors
/// The missing program.
pub fn available(program: &Program) -> Result<(), String> {
    match program.needs.iter().find(|need| !installed(need)) {
        Some(missing) => Err(format!("{missing} is not installed")),
        None => Ok(()),
    }
}
