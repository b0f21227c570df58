//! The embedded manager with two threads, row by row.

mod runner;

use kobj_abi::{AskedRights, Era, Koid};
use kobj_conformance::Start;
use kobj_conformance::broken::{Tear, Torn};
use kobj_conformance::threads::{Race, Threads, races};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{Boot, Call, CallAnswer, CallError, Effect, Limits, Resource};
use kobj_memory::Spin;
use runner::Test;
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;

struct Embedded(Manager<Spin>);

impl Threads for Embedded {
    type Options = ();

    fn start((): ()) -> Result<(Self, Start), CallError> {
        // Few units of left-over work in a step, so that the other thread comes in between.
        let limits = Limits { work_per_step: 3, seed: 0x6b6f_626a, ..Limits::default() };
        let manager = Manager::new(Time(0), Era(7), limits)?;
        let Boot { root_job, process, job, directory } = manager.boot();
        Ok((Self(manager), Start { root_job, process, job, directory }))
    }

    fn call(&self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.0.call(Time(0), process, call)
    }

    fn settle(&self) {
        while self.0.go_on() {}
    }

    fn live(&self) -> u64 {
        self.0.with(|core| core.live().into())
    }

    fn handles(&self, process: Koid) -> u64 {
        self.settle();
        let mut from = 0;
        let count = |core: &mut kobj_core::Core| {
            let next = || {
                let (_, next) = core.handle_from(process, from)?;
                from = next;
                Some(())
            };
            std::iter::from_fn(next).count() as u64
        };
        self.0.with(count)
    }

    fn limit(&self, owner: Koid, resource: Resource, limit: u64) {
        let first = self.0.boot().process;
        let handle = self.0.grant(first, owner, AskedRights::Same).expect("the embedder has a handle");
        self.call(first, Call::SetQuota { handle, resource, limit }).expect("the limit is set");
        self.call(first, Call::Close { handle }).expect("the handle is closed");
    }

    fn killed(&self) -> usize {
        std::iter::from_fn(|| self.0.next_effect()).filter(|effect| matches!(effect, Effect::Killed { .. })).count()
    }

    fn both<R: Send>(&self, one: impl FnOnce() -> R + Send, two: impl FnOnce() -> R + Send) -> (R, R) {
        let start = Barrier::new(2);
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                start.wait();
                two()
            });
            start.wait();
            let first = one();
            (first, other.join().expect("the other thread does not panic"))
        })
    }

    fn end(self) -> Result<(), String> {
        self.settle();
        self.0.with(|core| core.audit()).map_err(|imbalance| imbalance.to_string())?;
        self.0.with(kobj_core::Core::shut_down);
        self.settle();
        let _told = self.killed();
        match self.live() {
            0 => Ok(()),
            live => Err(format!("{live} objects live")),
        }
    }
}

/// The row that is named for a tear fails on the torn subject.
fn is_seen(tear: Tear) -> Result<(), String> {
    let name = tear.seen_by();
    let row = races::<Torn<Embedded>>().into_iter().find(|race| race.name() == name);
    let Some(row) = row else { return Err(format!("there is no row {name}")) };
    match row.run((tear, ())) {
        Err(failure) => {
            println!("{tear:?} is seen by {name}: {failure}");
            Ok(())
        }
        Ok(()) => Err(format!("{name} holds all the same")),
    }
}

/// `docs/conformance.md` says how many there are.
fn counts() -> Result<(), String> {
    let paper = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conformance.md");
    let paper = std::fs::read_to_string(paper).expect("docs/conformance.md can be read");
    let (rows, tears) = (races::<Embedded>().len(), Tear::ALL.len());
    for words in [format!("each of {rows} more rows"), format!("and {tears} for two threads")] {
        if !paper.contains(&words) {
            return Err(format!("docs/conformance.md should say: {words}"));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let race = |race: Race<Embedded>| -> Test {
        let name = race.name();
        let run = move || match runner::is_sourced(race.rule()) {
            true => race.run(()).map_err(|failure| failure.to_string()),
            false => Err(format!("it names no source that docs/semantics.md leads to: {}", race.rule())),
        };
        (name, Box::new(run))
    };
    let torn = |tear| -> Test { (format!("torn::{tear:?}"), Box::new(move || is_seen(tear))) };
    let mut tests: Vec<Test> = races().into_iter().map(race).chain(Tear::ALL.map(torn)).collect();
    tests.push(("suite::counts".into(), Box::new(counts)));
    runner::run(tests)
}
