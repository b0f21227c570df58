//! Signals reach a command under kobj exactly as often as they were sent.

use kobj_e2e::mode::Mode;
use kobj_e2e::place::one_room;
use kobj_e2e::process;
use kobj_e2e::running::{Running, Spec};
use rustix::process::{Pid, Signal, kill_process_group};

/// Signals that the counting program counts, and the names it prints.
const COUNTED: [(Signal, &str); 6] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::TERM, "SIGTERM"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::ALARM, "SIGALRM"),
];

fn counting(mode: Mode) -> (kobj_e2e::place::Place, Running) {
    let (place, room, kobj) = one_room(mode.uid());
    let script = place.root.join("count.py").display().to_string();
    let argv = ["/usr/bin/python3", "-B", &script].map(String::from).to_vec();
    let spec = Spec { argv, ready: "ready".into(), ..Spec::default() };
    let mut running = Running::start(mode, &room, &spec, Some((&kobj, &[])));
    running.ready("ready").unwrap_or_else(|output| panic!("{output}"));
    (place, running)
}

/// Asks for one more signal by the straight way and waits for it: whatever was on its way before has come by then.
fn settle(running: &Running, round: usize) {
    assert!(process::send(running.command_pid(), Signal::WINCH));
    assert!(running.line(&format!("counted SIGWINCH {round}")).is_some(), "{}", running.output());
}

fn last_count(running: &Running, name: &str) -> usize {
    let output = running.output();
    let mine = output.lines().filter_map(|line| line.strip_prefix("counted ")?.strip_prefix(name)?.trim().parse().ok());
    mine.last().unwrap_or(0)
}

#[test]
fn killpg_reaches_the_command_once() {
    let (_place, mut running) = counting(Mode::Root);
    let group = Pid::from_raw(running.leader() as i32).expect("a pid");
    for round in 1..=5 {
        for (signal, name) in COUNTED {
            kill_process_group(group, signal).expect("killpg");
            assert!(running.line(&format!("counted {name} {round}")).is_some(), "{}", running.output());
        }
        // A second copy would be sent within kobj's delay of 20 ms; one signal to kobj alone comes after it.
        assert!(process::send(running.kobj_pid(), Signal::USR2));
        assert!(running.line(&format!("counted SIGUSR2 {round}")).is_some(), "{}", running.output());
        settle(&running, round);
        for (_, name) in COUNTED {
            assert_eq!(last_count(&running, name), round, "{name}: {}", running.output());
        }
    }
    running.tear_down();
    assert!(running.wait().success());
}

#[test]
fn a_signal_to_kobj_alone_is_passed_on_once() {
    let (_place, mut running) = counting(Mode::User);
    for round in 1..=3 {
        for (signal, name) in COUNTED {
            assert!(process::send(running.kobj_pid(), signal));
            assert!(running.line(&format!("counted {name} {round}")).is_some(), "{}", running.output());
        }
        settle(&running, round);
    }
    running.tear_down();
    assert!(running.wait().success());
}

#[test]
fn sigterm_to_kobj_loses_no_report() {
    let (_place, room, kobj) = one_room(0);
    let argv = ["/bin/sh", "-c", "ipcmk -M 4096; echo ready; read end"].map(String::from).to_vec();
    let spec = Spec { argv, ready: "ready".into(), ..Spec::default() };
    let mut running = Running::start(Mode::Root, &room, &spec, Some((&kobj, &["--scrub"])));
    running.ready("ready").unwrap_or_else(|output| panic!("{output}"));
    assert!(process::send(running.kobj_pid(), Signal::TERM));
    let ended = running.wait_report();
    assert!(ended.died_of(15), "{}", ended.status);
    let scrubbed = |kind: &str| ended.report.stragglers.iter().filter(|item| item.kind == kind).count();
    assert_eq!(scrubbed("sysv-segment"), 1, "{}", ended.report.summary());
}
