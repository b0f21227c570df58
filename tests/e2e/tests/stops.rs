//! A command that is stopped: kobj stops with it only where a person at a terminal did it.

use kobj_e2e::mode::Mode;
use kobj_e2e::place::{Place, one_room};
use kobj_e2e::process;
use kobj_e2e::running::{Running, Spec};
use kobj_e2e::{PATIENCE, installed, skip};
use rustix::process::Signal;
use std::time::Instant;

/// A shell under kobj that waits, all started by `before`, from which kobj is reached over `forks` children.
fn waiting(before: &[&str], forks: usize, quoted: bool) -> (Place, Running) {
    let (place, room, kobj) = one_room(Mode::Root.uid());
    let report = room.desk.join("report.json").display().to_string();
    let kobj = kobj.display().to_string();
    let run = [&kobj, "run", "--report", &report, "--", "/bin/sh", "-c", "echo ready; read end"].map(String::from);
    let mut words: Vec<String> = before.iter().map(ToString::to_string).collect();
    if quoted {
        let quote = |word: &String| format!("'{word}'");
        words.push(format!("exec {}", run.iter().map(quote).collect::<Vec<_>>().join(" ")));
        words.push("/dev/null".into());
    } else {
        words.extend(run);
    }
    let spec = Spec { ready: "ready".into(), ..Spec::default() };
    let mut running = Running::spawn(&room, &spec, &words, forks, true);
    running.ready("ready").unwrap_or_else(|output| panic!("{output}"));
    (place, running)
}

fn until(what: &str, running: &Running, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: {}", running.output());
        std::thread::yield_now();
    }
}

/// Stops the command by `signal`. kobj hears of it and goes on: what it is sent reaches the stopped command.
fn kobj_goes_on(running: &mut Running, signal: Signal) {
    let (kobj, command) = (running.kobj_pid(), running.command_pid());
    assert!(process::send(command, signal));
    until("the command does not stop", running, || process::state(command) == Some('T'));
    let pending = || {
        let mask = process::status_field(command, "ShdPnd").unwrap_or_default();
        u64::from_str_radix(&mask, 16).unwrap_or(0) & (1 << (Signal::USR1.as_raw() - 1)) != 0
    };
    // Two, one after the other: the first may have been read before the stop was.
    for _ in 0..2 {
        assert!(process::send(kobj, Signal::USR1));
    }
    until("kobj stopped with its command", running, pending);
    assert_ne!(process::state(kobj), Some('T'), "kobj stopped with its command");
    assert!(process::send(command, Signal::CONT));
    let ended = running.wait();
    assert!(!ended.success(), "it ends by SIGUSR1");
}

#[test]
fn sigstop_stops_the_command_alone_even_on_a_terminal() {
    let test = "sigstop_stops_the_command_alone_even_on_a_terminal";
    if !installed("script") {
        return skip(test, "script is not installed");
    }
    let (_place, mut running) = waiting(&["script", "-qec"], 1, true);
    kobj_goes_on(&mut running, Signal::STOP);
}

/// In a session without a terminal nobody could let kobj go on again.
#[test]
fn without_a_terminal_a_stopped_command_stops_alone() {
    let test = "without_a_terminal_a_stopped_command_stops_alone";
    if !installed("setsid") || !installed("bash") {
        return skip(test, "setsid or bash is not installed");
    }
    // In a group of its own below a shell of the same session, so that the kernel lets it stop.
    let before = ["setsid", "--wait", "bash", "-c", "set -m; \"$@\" <&0 & wait $!", "bash"];
    let (_place, mut running) = waiting(&before, 2, false);
    kobj_goes_on(&mut running, Signal::TSTP);
}
