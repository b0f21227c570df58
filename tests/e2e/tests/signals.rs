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

fn counting(mode: Mode, how: &[&str]) -> (kobj_e2e::place::Place, Running) {
    let (place, room, kobj) = one_room(mode.uid());
    let script = place.root.join("count.py").display().to_string();
    let mut argv = ["/usr/bin/python3", "-B", &script].map(String::from).to_vec();
    argv.extend(how.iter().map(ToString::to_string));
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

/// The command holds its signals, so that each shows pending when kobj looks: what has reached it must not be sent again.
/// (A command that has taken the signal before kobj looks cannot be told from one that never got it.)
#[test]
fn killpg_reaches_the_command_once() {
    let (_place, mut running) = counting(Mode::Root, &["held"]);
    let group = Pid::from_raw(running.leader() as i32).expect("a pid");
    let pending = |signal: Signal| {
        let mask = process::status_field(running.command_pid(), "ShdPnd").unwrap_or_default();
        u64::from_str_radix(&mask, 16).unwrap_or(0) & (1 << (signal.as_raw() - 1)) != 0
    };
    // One signal to kobj alone comes to the command after all that kobj got before.
    let settle = || {
        assert!(process::send(running.kobj_pid(), Signal::USR2));
        let end = std::time::Instant::now() + kobj_e2e::PATIENCE;
        while !pending(Signal::USR2) {
            assert!(std::time::Instant::now() < end, "SIGUSR2 was not passed on: {}", running.output());
            std::thread::yield_now();
        }
    };
    for (signal, _) in COUNTED {
        kill_process_group(group, signal).expect("killpg");
    }
    settle();
    let kobj = running.kobj_pid();
    let output = {
        running.write("first\n");
        assert!(running.line("taken first").is_some(), "{}", running.output());
        assert!(process::send(kobj, Signal::USR2));
        running.write("second\n");
        assert!(running.line("taken second").is_some(), "{}", running.output());
        running.output()
    };
    for (_, name) in COUNTED {
        assert!(output.contains(&format!("counted {name} 1")), "{output}");
        assert!(!output.contains(&format!("counted {name} 2")), "{output}");
    }
    running.tear_down();
    assert!(running.wait().success());
}

/// A command that takes the signal before kobj looks cannot be told from one that never got it: it gets it again, once.
/// None is lost, and after 20 milliseconds no more come.
#[test]
fn killpg_to_a_command_that_takes_it_at_once_reaches_it_once_or_twice() {
    let (_place, mut running) = counting(Mode::Root, &[]);
    let group = Pid::from_raw(running.leader() as i32).expect("a pid");
    for (signal, _) in COUNTED {
        kill_process_group(group, signal).expect("killpg");
    }
    // To kobj alone and after all others: when it comes, those before it have come.
    assert!(process::send(running.kobj_pid(), Signal::USR2));
    assert!(running.line("counted SIGUSR2 1").is_some(), "{}", running.output());
    settle(&running, 1);
    running.tear_down();
    let output = running.output();
    assert!(running.wait().success());
    for (_, name) in COUNTED {
        assert!(output.contains(&format!("counted {name} 1")), "{output}");
        assert!(!output.contains(&format!("counted {name} 3")), "{output}");
    }
}

#[test]
fn a_signal_to_kobj_alone_is_passed_on_once() {
    let (_place, mut running) = counting(Mode::User, &[]);
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
