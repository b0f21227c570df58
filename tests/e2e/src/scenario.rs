//! One program in one mode: killed alone, killed with its tree beside a bystander and another job, torn down properly.

use crate::mode::Mode;
use crate::object;
use crate::place::{Place, Room};
use crate::program::{self, Program, Setting};
use crate::running::{Ended, Running, Spec};
use crate::table::{Entry, Kill, Table};
use crate::{build, process};
use std::path::{Path, PathBuf};

/// A started program and what it is known to make; dropping it removes what is left of that.
struct Instance {
    running: Running,
    made: Vec<String>,
    /// Segments that its processes have mapped.
    mapped: Vec<String>,
    folder: PathBuf,
}

impl Instance {
    fn start(program: &Program, mode: Mode, room: &Room, spec: &Spec, kobj: Option<(&Path, &[&str])>) -> Self {
        let mut running = Running::start(mode, room, spec, kobj);
        let ready = running.ready(&spec.ready);
        let fill = |pattern: &&&str| object::fill(pattern, &running.variables);
        // A process that a container names has another pid here.
        let outside = |object: &String| kobj.is_none() || !object.starts_with("process ");
        let made = program.makes.iter().filter_map(|pattern| fill(&pattern)).filter(outside).collect();
        let folder = room.desk.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_path_buf);
        let mut instance = Self { running, made, mapped: Vec::new(), folder };
        if let Err(output) = ready {
            panic!("{}: {output}", program.name);
        }
        instance.look();
        instance
    }

    /// Notes what its processes have mapped by now.
    fn look(&mut self) {
        let main = self.running.command_pid();
        let mut pids = process::descendants(main);
        pids.push(main);
        self.mapped.extend(object::mapped(&pids));
    }

    /// Objects that should be there and are not.
    fn missing(&self) -> Vec<&String> {
        self.made.iter().filter(|object| object::exists(object) == Some(false)).collect()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The program first, so that nothing is in use any more.
        if !std::thread::panicking() {
            self.running.tear_down_if_running();
        }
        self.running.kill();
        for object in self.made.iter().chain(&self.mapped) {
            object::remove(object, &self.folder);
        }
    }
}

/// Runs a program through all its ends in `mode` (`Contained` stands for the program's own kind of container).
///
/// # Panics
/// If a report does not say what the table says, or a bystander was harmed.
pub fn run(name: &str, mode: Mode) {
    let program = program::find(name).unwrap_or_else(|| panic!("no program {name}"));
    let mode = if mode == Mode::Contained { program.container } else { mode };
    let test = format!("{name} in mode {}", mode.name());
    let table = Table::checked_in();
    let entry = table.entry(name);
    let place = Place::new().unwrap_or_else(|error| panic!("no place: {error}"));
    if let Err(why) = program::available(&program).and_then(|()| surroundings(mode)) {
        return crate::skip(&test, &why);
    }
    let stage = Stage { program, mode, place: &place, kobj: build::kobj(&place.root) };
    if let Err(why) = stage.spec("probe", 0) {
        return crate::skip(&test, &why);
    }
    if let Some(why) = entry.refused.get(mode.name()) {
        return stage.refused(why);
    }
    stage.kills(entry);
    stage.tear_down(entry);
}

/// Whether this machine has the mode at all.
fn surroundings(mode: Mode) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("the tests need root to take on each mode".into());
    }
    let mut words = mode.prefix();
    words.push("true".into());
    let status = std::process::Command::new(&words[0]).args(&words[1..]).env("PATH", crate::running::PATH).output();
    match status {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!("{}: {}", words[0], String::from_utf8_lossy(&done.stderr).trim())),
        Err(error) => Err(format!("{}: {error}", words[0])),
    }
}

struct Stage<'a> {
    program: Program,
    mode: Mode,
    place: &'a Place,
    kobj: PathBuf,
}

const FLAGS: &[&str] = &["--scrub=all"];

impl Stage<'_> {
    fn spec(&self, room: &str, number: u32) -> Result<(Room, Spec), String> {
        let room = self.place.room(room, self.mode.uid()).map_err(|error| error.to_string())?;
        let setting = Setting { mode: self.mode, place: self.place, room: &room, number };
        let spec = (self.program.spec)(&setting)?;
        Ok((room, spec))
    }

    fn start(&self, room: &str, number: u32, job: bool) -> Instance {
        let (room, spec) = self.spec(room, number).unwrap_or_else(|error| panic!("{}: {error}", self.program.name));
        Instance::start(&self.program, self.mode, &room, &spec, job.then_some((self.kobj.as_path(), FLAGS)))
    }

    /// The program itself must fail here; kobj passes that on and has nothing to report.
    fn refused(&self, why: &str) {
        let (room, spec) = self.spec("a", 0).unwrap_or_else(|error| panic!("{}: {error}", self.program.name));
        let mut running = Running::start(self.mode, &room, &spec, Some((&self.kobj, FLAGS)));
        assert!(running.ready(&spec.ready).is_err(), "{} runs here, though {why}", self.program.name);
        let ended = running.wait_report();
        assert!(!ended.status.success(), "{} ends with success, though {why}", self.program.name);
        assert!(ended.report.stragglers.is_empty(), "{}\n{}", ended.report.summary(), ended.output);
    }

    /// The first job loses its main process, the second its tree; a bystander, started meanwhile, keeps everything.
    fn kills(&self, entry: &Entry) {
        let mut first = self.start("a", 0, true);
        let mut bystander = self.start("b", 1, false);
        let mut second = self.start("c", 2, true);
        first.look();
        bystander.look();
        first.running.kill_main();
        let ended = first.running.wait_report();
        self.judge(entry, Kill::Main, &first, &ended);
        self.unharmed(&bystander);
        assert_eq!(second.missing(), Vec::<&String>::new(), "the other job was harmed by the end of the first");
        second.look();
        second.running.kill_tree();
        let ended = second.running.wait_report();
        self.judge(entry, Kill::Tree, &second, &ended);
        self.unharmed(&bystander);
        bystander.running.tear_down();
        bystander.running.wait();
    }

    fn unharmed(&self, bystander: &Instance) {
        assert_eq!(bystander.missing(), Vec::<&String>::new(), "the bystander of {} was harmed", self.program.name);
        for object in &bystander.mapped {
            assert_eq!(object::exists(object), Some(true), "the bystander of {} lost {object}", self.program.name);
        }
        assert!(process::alive(bystander.running.command_pid()), "the bystander of {} was killed", self.program.name);
    }

    fn judge(&self, entry: &Entry, kill: Kill, instance: &Instance, ended: &Ended) {
        let mut problems = entry.problems(self.mode, kill, &instance.running.variables, &ended.report);
        if !ended.died_of(9) {
            problems.push(format!("kobj did not end as the command did, but with {}", ended.status));
        }
        let (name, mode) = (self.program.name, self.mode.name());
        assert!(
            problems.is_empty(),
            "{name}, {mode}, killed {kill:?}:\n  {}\nthe report:\n{}\noutput:\n{}",
            problems.join("\n  "),
            ended.report.summary(),
            ended.output
        );
    }

    /// Ended by its own tear-down there is no news: a first run lays what the program keeps for good, the second is
    /// judged.
    fn tear_down(&self, entry: &Entry) {
        let (room, spec) = self.spec("d", 0).unwrap_or_else(|error| panic!("{}: {error}", self.program.name));
        if self.program.keeps {
            let mut before = Running::start(self.mode, &room, &spec, None);
            before.ready(&spec.ready).unwrap_or_else(|output| panic!("{}: {output}", self.program.name));
            before.tear_down();
            before.wait();
        }
        let mut job = Instance::start(&self.program, self.mode, &room, &spec, Some((&self.kobj, FLAGS)));
        job.running.tear_down();
        let ended = job.running.wait_report();
        let (name, mode, report) = (self.program.name, self.mode.name(), &ended.report);
        let problems = entry.problems(self.mode, Kill::Down, &job.running.variables, report);
        let about = format!(
            "{name}, {mode}, torn down:\n  {}\nthe report:\n{}\noutput:\n{}",
            problems.join("\n  "),
            report.summary(),
            ended.output
        );
        assert!(problems.is_empty(), "{about}");
        assert!(report.job.complete, "{about}");
    }
}
