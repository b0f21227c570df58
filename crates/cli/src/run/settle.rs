//! What is done about what is left: each straggler becomes an object of the manager, is decided about, judged by the
//! kernel, scrubbed where that is asked for and allowed, and entered in the report.

use super::ending::Leftover;
use crate::baseline::Baseline;
use crate::options::run::{RunOptions, Scrub};
use crate::patterns::{Pattern, any_matches};
use crate::report::schema::{Action, Straggler};
use kobj_abi::{Class, Era, EvidenceKind, Koid, ObjectType, Strength, Tag};
use kobj_core::image::{Creator, Evidence, HostImage, Identity, Time};
use kobj_core::types::process;
use kobj_core::{Core, Outcome as Done, Ticket};
use kobj_host::hands::Hands;
use kobj_host::holders::Holders;
use kobj_host::kind::{Outcome, Verdict};
use kobj_host::kinds;
use kobj_host::view::View;
use std::collections::{BTreeSet, HashMap};

/// What is wanted, as far as objects are concerned: the part of the options that `run` and `scrub` share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy<'a> {
    /// What is scrubbed.
    pub(crate) scrub: Scrub,
    /// Reported, never touched.
    pub(crate) keep: &'a [Pattern],
    /// Hidden, never touched.
    pub(crate) ignore: &'a [Pattern],
    /// Hidden, never touched.
    pub(crate) baseline: &'a Baseline,
    /// Touch nothing.
    pub(crate) report_only: bool,
    /// Plan only.
    pub(crate) dry_run: bool,
}

impl<'a> Policy<'a> {
    /// The policy of a run.
    pub(crate) fn of_run(options: &'a RunOptions) -> Self {
        let RunOptions { scrub, keep, ignore, baseline, report_only, dry_run, .. } = options;
        Self { scrub: *scrub, keep, ignore, baseline, report_only: *report_only, dry_run: *dry_run }
    }
}

/// The books of one job, and the rows of its report.
pub(crate) struct Settlement<'a> {
    policy: Policy<'a>,
    view: &'a View,
    now: Time,
    core: Core,
    job: Koid,
    makers: HashMap<u32, Koid>,
    /// Entered and not destroyed.
    open: BTreeSet<Koid>,
    stragglers: Vec<Straggler>,
    unattributed: Vec<Straggler>,
    /// Rows whose holders are still to be found: the image, and where its row stands.
    remaining: Vec<(HostImage, bool, usize)>,
    faults: Vec<String>,
}

/// What a report says of the objects.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What is the job's own.
    pub(crate) stragglers: Vec<Straggler>,
    /// What is nobody's by proof.
    pub(crate) unattributed: Vec<Straggler>,
    /// Sentences about mistakes of kobj's own; each makes the run incomplete.
    pub(crate) faults: Vec<String>,
}

/// What the options want done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Ignore,
    Keep,
    OnlyReport(&'static str),
    Plan,
    Scrub,
}

/// What happens next to an object that was entered.
enum Next {
    /// This stands in its row.
    Say(Action, String),
    /// It is gone: somebody else destroyed it.
    Forget,
    /// It is reserved for its scrub.
    Scrub(Ticket),
}

impl<'a> Settlement<'a> {
    /// Opens the books of the job whose koid is the first of `era`.
    ///
    /// # Errors
    /// The manager refused its first job, which only a lack of memory explains.
    pub(crate) fn new(
        policy: Policy<'a>,
        view: &'a View,
        now: Time,
        era: Era,
        name: Option<&[u8]>,
    ) -> Result<Self, String> {
        let mut core = Core::new(era);
        let job = core.create_job(now, None, name).map_err(|e| format!("cannot open the job's books: {e}"))?;
        Ok(Self {
            policy,
            view,
            now,
            core,
            job,
            makers: HashMap::new(),
            open: BTreeSet::new(),
            stragglers: Vec::new(),
            unattributed: Vec::new(),
            remaining: Vec::new(),
            faults: Vec::new(),
        })
    }

    /// Enters a leftover process and what became of it.
    pub(crate) fn add_process(&mut self, leftover: Leftover) {
        let (image, action, why) = leftover.into_row();
        let Identity::Process { pid, started } = image.identity else { return };
        let request = process::Request { pid, started, ended: false };
        let koid = match self.core.create_process(self.now, Some(self.job), request, Some(&image.name)) {
            Ok(koid) => koid,
            Err(error) => return self.faults.push(format!("process {pid} is not in the books: {error}")),
        };
        self.open.insert(koid);
        let tag = Tag { letters: ObjectType::Process.letters(), koid };
        if action.is_gone() {
            self.open.remove(&koid);
            if let Err(error) = self.core.process_ended(koid) {
                self.faults.push(format!("process {pid} stays in the books: {error}"));
            }
        }
        let action = if self.is_ignored(&image, tag) { Action::Ignored } else { action };
        self.stragglers.push(Straggler::new(&image, tag, action, why));
    }

    /// Enters an object that is nobody's by proof: it is reported, never touched.
    pub(crate) fn add_unattributed(&mut self, image: HostImage) {
        let Some((_, tag)) = self.enter(&image) else { return };
        let (action, why) = match self.wish(&image, tag) {
            Wish::Ignore => (Action::Ignored, "it is to be ignored".to_owned()),
            Wish::Keep => (Action::Kept, "it is to be kept (--keep)".to_owned()),
            _ => (Action::Reported, "nothing proves that the job made it, so it is left".to_owned()),
        };
        self.unattributed.push(Straggler::new(&image, tag, action, why));
        self.remaining.push((image, false, self.unattributed.len() - 1));
    }

    /// Enters objects that are the job's own, and does what is wished. `hands` destroy.
    pub(crate) fn add_own(&mut self, images: Vec<HostImage>, hands: &mut Hands<'_>) {
        let mut entered = Vec::with_capacity(images.len());
        for mut image in images {
            let Some((koid, tag)) = self.enter(&image) else { continue };
            let next = match self.wish(&image, tag) {
                Wish::Ignore => Next::Say(Action::Ignored, "it is to be ignored".to_owned()),
                Wish::Keep => Next::Say(Action::Kept, "it is to be kept (--keep)".to_owned()),
                Wish::OnlyReport(why) => self.judge(&mut image, hands, Action::Reported, why),
                Wish::Plan => self.judge(&mut image, hands, Action::Planned, "it would be scrubbed"),
                Wish::Scrub => self.reserve(koid),
            };
            entered.push((image, koid, tag, next));
        }
        let reserved = entered.iter().filter(|(.., next)| matches!(next, Next::Scrub(_)));
        let images: Vec<&HostImage> = reserved.map(|(image, ..)| image).collect();
        let mut outcomes = kinds::scrub_all(self.view, &images, hands).into_iter();
        for (mut image, koid, tag, next) in entered {
            let next = match next {
                Next::Scrub(ticket) => {
                    let outcome = outcomes.next().unwrap_or(Outcome::Left(Verdict::Gone));
                    self.commit(koid, ticket, &mut image, outcome)
                }
                other => other,
            };
            match next {
                Next::Say(action, why) => self.push_own(image, tag, action, why),
                Next::Forget | Next::Scrub(_) => self.forget(koid),
            }
        }
    }

    fn push_own(&mut self, image: HostImage, tag: Tag, action: Action, why: String) {
        self.stragglers.push(Straggler::new(&image, tag, action, why));
        if !action.is_gone() {
            self.remaining.push((image, true, self.stragglers.len() - 1));
        }
    }

    /// Finds who uses what is left, one pass over all processes for everything.
    pub(crate) fn name_holders(&mut self) {
        let remaining = std::mem::take(&mut self.remaining);
        if remaining.is_empty() {
            return;
        }
        let (images, places): (Vec<HostImage>, Vec<(bool, usize)>) =
            remaining.into_iter().map(|(image, own, index)| (image, (own, index))).unzip();
        let holders = Holders::of_trees(self.view, &images);
        for (at, (own, index)) in places.into_iter().enumerate() {
            let rows = if own { &mut self.stragglers } else { &mut self.unattributed };
            let Some(row) = rows.get_mut(index) else { continue };
            for holder in holders.of_object(at) {
                let holder = holder.into();
                if !row.holders.contains(&holder) {
                    row.holders.push(holder);
                }
            }
        }
    }

    /// Closes the books: what is left in the host is let go of here, and then created less destroyed must be nothing.
    pub(crate) fn close_books(mut self) -> Settled {
        let makers = self.makers.values().copied();
        let all: Vec<Koid> = self.open.iter().copied().chain(makers).chain([self.job]).collect();
        for koid in all {
            if let Err(error) = self.core.close(koid) {
                self.faults.push(format!("the job's books do not close: {error}"));
            }
        }
        match self.core.finish() {
            Ok(ending) if ending.is_zero() => {}
            Ok(ending) => {
                let left: Vec<String> = ending.left.iter().map(|left| left.tag.to_string()).collect();
                self.faults.push(format!("the job's books are not empty: {}", left.join(", ")));
            }
            Err(error) => self.faults.push(format!("the job's books do not balance: {error}")),
        }
        Settled { stragglers: self.stragglers, unattributed: self.unattributed, faults: self.faults }
    }

    fn enter(&mut self, image: &HostImage) -> Option<(Koid, Tag)> {
        let creator = image.creator.as_ref().and_then(|creator| self.maker(creator));
        match self.core.create_host_object(self.now, self.job, image.clone(), creator) {
            Ok(koid) => {
                self.open.insert(koid);
                Some((koid, Tag { letters: ObjectType::HostObject.letters(), koid }))
            }
            Err(error) => {
                let name = String::from_utf8_lossy(&image.name).into_owned();
                self.faults.push(format!("{} {name} is not in the books: {error}", image.kind.name()));
                None
            }
        }
    }

    /// The process object of a maker; it has ended for what matters here.
    fn maker(&mut self, creator: &Creator) -> Option<Koid> {
        if let Some(koid) = self.makers.get(&creator.pid) {
            return Some(*koid);
        }
        let request = process::Request { pid: creator.pid, started: 0, ended: true };
        let koid = self.core.create_process(self.now, Some(self.job), request, Some(&creator.command)).ok()?;
        self.makers.insert(creator.pid, koid);
        Some(koid)
    }

    /// It was gone before anything was done: somebody else destroyed it.
    fn forget(&mut self, koid: Koid) {
        self.open.remove(&koid);
        if let Err(error) = self.core.close(koid) {
            self.faults.push(format!("{koid} stays in the books: {error}"));
        }
    }

    fn is_ignored(&self, image: &HostImage, tag: Tag) -> bool {
        any_matches(self.policy.ignore, image.kind, &image.name)
            || self.policy.baseline.knows(&Straggler::new(image, tag, Action::Reported, String::new()))
    }

    fn wish(&self, image: &HostImage, tag: Tag) -> Wish {
        if self.is_ignored(image, tag) {
            return Wish::Ignore;
        }
        if any_matches(self.policy.keep, image.kind, &image.name) {
            return Wish::Keep;
        }
        let asked = match (image.class, self.policy.scrub) {
            (Class::Runtime, Scrub::Runtime | Scrub::All) | (Class::Temporary, Scrub::All) => true,
            (Class::Runtime | Class::Temporary, _) | (Class::Output, _) => false,
        };
        match image.class {
            _ if self.policy.report_only => Wish::OnlyReport("nothing is touched (--report-only)"),
            _ if asked && self.policy.dry_run => Wish::Plan,
            _ if asked => Wish::Scrub,
            Class::Temporary => Wish::OnlyReport("temporary files are scrubbed only by --scrub=all"),
            _ => Wish::OnlyReport("scrubbing was not asked for (--scrub)"),
        }
    }

    /// Asks the judge; `action` and `why` if it calls the object unused, or may not be asked.
    fn judge(&mut self, image: &mut HostImage, hands: &mut Hands<'_>, action: Action, why: &str) -> Next {
        let Some(kind) = kinds::of(image.kind) else { return Next::Say(Action::Reported, kinds::no_judge(image.kind)) };
        if self.policy.report_only {
            return Next::Say(action, why.to_owned());
        }
        match kind.judge(self.view, image, hands) {
            Verdict::Unused(words) => {
                say_unused(image, &words);
                Next::Say(action, why.to_owned())
            }
            Verdict::Gone => Next::Forget,
            verdict => refusal(image, verdict),
        }
    }

    /// Has the manager reserve the object for its scrub.
    fn reserve(&mut self, koid: Koid) -> Next {
        let ticket = match self.core.begin_scrub(koid) {
            Ok(ticket) => ticket,
            Err(error) => return Next::Say(Action::Failed, error.to_string()),
        };
        let _effect = self.core.take_effects();
        Next::Scrub(ticket)
    }

    /// Tells the manager what came of a scrub: committed or undone.
    fn commit(&mut self, koid: Koid, ticket: Ticket, image: &mut HostImage, outcome: Outcome) -> Next {
        let done = match outcome {
            Outcome::Scrubbed(_) => {
                self.open.remove(&koid);
                Done::Destroyed
            }
            Outcome::Left(_) | Outcome::Failed(_) => Done::Left,
        };
        if let Err(error) = self.core.done(ticket, done) {
            self.faults.push(format!("the scrub of {koid} is not in the books: {error}"));
        }
        match outcome {
            Outcome::Scrubbed(words) => {
                say_unused(image, &words);
                Next::Say(Action::Scrubbed, "it was the job's own and used by nobody".to_owned())
            }
            Outcome::Left(Verdict::Gone) => Next::Forget,
            Outcome::Left(Verdict::Unused(words)) => Next::Say(Action::Failed, words),
            Outcome::Left(verdict) => refusal(image, verdict),
            Outcome::Failed(why) => Next::Say(Action::Failed, why),
        }
    }
}

fn say_unused(image: &mut HostImage, words: &str) {
    let detail = words.to_owned();
    image.evidence.push(Evidence { kind: EvidenceKind::Unused, strength: Strength::Proof, detail });
}

fn refusal(image: &mut HostImage, verdict: Verdict) -> Next {
    let (action, words) = match verdict {
        Verdict::InUse(holders, words) => {
            for holder in holders {
                if !image.holders.contains(&holder) {
                    image.holders.push(holder);
                }
            }
            (Action::InUse, words)
        }
        Verdict::Unknown(why) => (Action::Reported, why),
        Verdict::Replaced => (Action::Reported, "the name leads to another object now".to_owned()),
        Verdict::Gone | Verdict::Unused(_) => (Action::Reported, "it is gone".to_owned()),
    };
    Next::Say(action, words)
}
