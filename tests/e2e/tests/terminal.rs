//! Editor, shell and pager under kobj on a real terminal, driven through tmux as a person would.

use kobj_e2e::place::{Place, Room, one_room};
use kobj_e2e::running::{PATH, Running, Spec};
use kobj_e2e::{PATIENCE, installed, skip};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// A tmux server with one shell in it; the control client's output says when there is something new to look at.
struct Terminal {
    control: Running,
    room: Room,
    kobj: PathBuf,
    _place: Place,
}

/// Without its last blank, which tmux does not show.
const PROMPT: &str = "ready>";

impl Terminal {
    fn open(test: &str) -> Option<Self> {
        for program in ["tmux", "bash", "nano", "less"] {
            if !installed(program) {
                skip(test, &format!("{program} is not installed"));
                return None;
            }
        }
        let (place, room, kobj) = one_room(0);
        let shell = format!("env PS1='{PROMPT} ' bash --norc --noprofile");
        let mut words: Vec<String> =
            ["tmux", "-L", &room.tag, "-f", "/dev/null", "-C", "new-session"].map(String::from).into();
        words.extend(["-x", "100", "-y", "30", &shell].map(String::from));
        let environment = vec![
            ("TMUX_TMPDIR".into(), room.tmp.display().to_string()),
            ("SHELL".into(), "/bin/sh".into()),
            ("TERM".into(), "xterm".into()),
        ];
        let control = Running::spawn(&room, &Spec { environment, ..Spec::default() }, &words, 0, false);
        let terminal = Self { control, room, kobj, _place: place };
        terminal.shows(PROMPT);
        Some(terminal)
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.room.tag]).args(words).env_clear().env("PATH", PATH);
        command.env("TMUX_TMPDIR", &self.room.tmp).env("LANG", "C.UTF-8");
        let done = command.output().unwrap_or_else(|error| panic!("tmux: {error}"));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Presses keys, as tmux names them.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line.
    fn enter(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    /// Types a command line with `kobj run -- ` before it.
    fn run(&self, command: &str) {
        self.enter(&format!("clear; {} run -- {command}", self.kobj.display()));
    }

    /// Waits until the screen has `text`.
    fn shows(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Waits until the last line of the screen is a prompt.
    fn prompts(&self) -> String {
        self.wait("a prompt", |screen| screen.trim_end().ends_with(PROMPT))
    }

    fn wait(&self, what: &str, good: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if good(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "waited for {what}; the screen:\n{screen}");
            seen = self.control.beyond(seen).unwrap_or_else(|| panic!("waited for {what}; the screen:\n{screen}"));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
        let _ = self.control.wait();
    }
}

#[test]
fn an_editor_works() {
    let Some(terminal) = Terminal::open("an_editor_works") else { return };
    let file = terminal.room.home.join("letter");
    terminal.run(&format!("nano {}", file.display()));
    terminal.shows("GNU nano");
    terminal.enter("dear reader");
    terminal.shows("dear reader");
    terminal.press(&["C-x"]);
    terminal.shows("Save modified buffer");
    terminal.press(&["y", "Enter"]);
    terminal.prompts();
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), "dear reader\n\n");
    terminal.enter("stty -a | grep -c ' icanon' ; echo was=$?");
    terminal.shows("was=0");
}

#[test]
fn a_pager_works() {
    let Some(terminal) = Terminal::open("a_pager_works") else { return };
    let file = terminal.room.home.join("long");
    fs::write(&file, (1..=500).map(|n| format!("line {n}\n")).collect::<String>()).expect("a file");
    terminal.run(&format!("less {}", file.display()));
    terminal.shows("line 29");
    terminal.press(&["G"]);
    terminal.shows("line 500");
    terminal.press(&["q"]);
    terminal.prompts();
}

#[test]
fn control_z_stops_and_fg_goes_on() {
    let Some(terminal) = Terminal::open("control_z_stops_and_fg_goes_on") else { return };
    terminal.run("sh -c 'echo go\"\"ing; exec cat'");
    terminal.shows("going");
    for round in 1..=3 {
        terminal.press(&["C-z"]);
        terminal.prompts();
        terminal.enter(&format!("clear; echo jobs-{round}; jobs"));
        terminal.shows("Stopped");
        // Typed only when the screen is clean: what is echoed before would be wiped.
        terminal.enter(&format!("clear; echo aga\"\"in-{round}; fg"));
        terminal.shows(&format!("again-{round}"));
        terminal.enter(&format!("word-{round}"));
        // Once as typed, once from cat.
        terminal.wait("cat's answer", |screen| screen.matches(&format!("word-{round}")).count() == 2);
    }
    terminal.press(&["C-c"]);
    terminal.prompts();
    terminal.enter("echo status=$?");
    terminal.shows("status=130");
}

#[test]
fn control_c_reaches_the_command_once() {
    let Some(terminal) = Terminal::open("control_c_reaches_the_command_once") else { return };
    terminal.run("sh -c 'trap \"echo caught; exit\" INT; echo go\"\"ing; while read line; do echo got $line; done'");
    terminal.shows("going");
    terminal.press(&["C-c"]);
    terminal.shows("caught");
    // Whether the signal comes in the read or before it, the trap ends the shell, which is the command.
    let screen = terminal.prompts();
    assert_eq!(screen.matches("caught").count(), 1, "{screen}");
}

#[test]
fn a_shell_with_its_own_job_control_works() {
    let Some(terminal) = Terminal::open("a_shell_with_its_own_job_control_works") else { return };
    terminal.run("env PS1='inner> ' bash --norc --noprofile");
    terminal.shows("inner>");
    terminal.enter("sh -c 'echo go\"\"ing; exec cat'");
    terminal.shows("going");
    terminal.press(&["C-z"]);
    terminal.shows("Stopped");
    terminal.enter("clear; echo aga\"\"in; fg");
    terminal.shows("again");
    terminal.enter("word");
    terminal.wait("cat's answer", |screen| screen.matches("word").count() == 2);
    terminal.press(&["C-c"]);
    terminal.shows("inner>");
    terminal.enter("exit 3");
    terminal.prompts();
    terminal.enter("echo status=$?");
    terminal.shows("status=3");
}

#[test]
fn the_terminal_comes_back_from_a_killed_shell() {
    let Some(terminal) = Terminal::open("the_terminal_comes_back_from_a_killed_shell") else { return };
    terminal.run("env PS1='inner> ' bash --norc --noprofile");
    terminal.shows("inner>");
    // The inner shell gives the foreground to a group of its own, and is killed together with it.
    terminal.enter("inner=$$; sh -c 'kill -9 '$$' $$'");
    terminal.prompts();
    terminal.enter("echo status=$?; cat");
    terminal.shows("status=137");
    terminal.enter("word");
    terminal.wait("cat's answer", |screen| screen.matches("word").count() == 2);
    terminal.press(&["C-d"]);
    terminal.prompts();
}
