//! Every program in every mode: see `table.toml` for what each must show.

use kobj_e2e::mode::Mode;
use kobj_e2e::scenario;

macro_rules! programs {
    ($($module:ident $name:literal;)*) => {$(
        mod $module {
            #[test]
            fn root() {
                super::scenario::run($name, super::Mode::Root);
            }
            #[test]
            fn user() {
                super::scenario::run($name, super::Mode::User);
            }
            #[test]
            fn contained() {
                super::scenario::run($name, super::Mode::Contained);
            }
        }
    )*};
}

programs! {
    python_segment "python-segment";
    python_lock "python-lock";
    python_manager "python-manager";
    python_pool "python-pool";
    postgresql "postgresql";
    redis "redis";
    chromium "chromium";
    xvfb "xvfb";
    tmux "tmux";
    ssh_agent "ssh-agent";
    daemon "daemon";
    ipcmk "ipcmk";
    loop_mount "loop-mount";
    ip_netns "ip-netns";
    boost "boost";
    iceoryx2 "iceoryx2";
}
