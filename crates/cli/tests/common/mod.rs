//! What tests share that run kobj in a mount namespace of its own.
#![allow(dead_code, reason = "each test program takes what it needs")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder that every user may look into, with kobj in it; the word of its name is in all names of its test.
pub(crate) struct Scene {
    pub(crate) folder: PathBuf,
    pub(crate) word: String,
}

impl Scene {
    /// `None`, said by name, without root.
    pub(crate) fn new(test: &str, name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: {test}: needs root for mounts of its own");
            return None;
        }
        let word = format!("kobj-around-{name}-{}", std::process::id());
        let folder = Path::new("/var/tmp").join(&word);
        std::fs::create_dir_all(&folder).unwrap();
        // By another process: what other tests start meanwhile would inherit a descriptor that is open for writing here.
        let copied = Command::new("install").arg(env!("CARGO_BIN_EXE_kobj")).arg(&folder).status();
        assert!(copied.unwrap().success());
        let fifo = folder.join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        for (path, mode) in [(&folder, 0o755), (&folder.join("kobj"), 0o755), (&fifo, 0o666)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        Some(Self { folder, word })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a shell script in a mount namespace of its own; `$K` is kobj, `$W` the word, `$D` the folder, `$U` becomes
    /// nobody, `$C` is a child that stays.
    pub(crate) fn run(&self, script: &str) -> Output {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, &self.word]).env("K", self.path("kobj"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KOBJ_")) {
            command.env_remove(name);
        }
        command.env("W", &self.word).env("D", &self.folder).env("XDG_CONFIG_HOME", "/nonexistent");
        command.env("XDG_STATE_HOME", self.path("state")).env_remove("XDG_RUNTIME_DIR").env_remove("TMPDIR");
        command.env("U", "setpriv --reuid=65534 --regid=65534 --clear-groups");
        command.env("C", "sh -c 'read x; read x' $W <>$D/fifo >/dev/null 2>&1");
        command.stdin(Stdio::null()).current_dir("/").output().unwrap()
    }

    pub(crate) fn report(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.path("r.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for pid in processes(&self.word) {
            let target = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).unwrap();
            _ = rustix::process::kill_process(target, rustix::process::Signal::KILL);
        }
        for entry in std::fs::read_dir("/dev/shm").unwrap().flatten() {
            if entry.file_name().to_string_lossy().contains(&self.word) {
                _ = std::fs::remove_file(entry.path());
            }
        }
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Living processes with that word among their arguments.
pub(crate) fn processes(word: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let carries = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    pids.filter(carries).collect()
}
