//! Killing a job: bottom-up, in bounded pieces, as often as one likes.
//!
//! The job and all inside it take no new objects from the first step on. The killer passes twice, each time down to the
//! innermost jobs first: once it asks for the end of living processes (an effect each), once it destroys all else; so no
//! living process is forgotten because something that kept it went first. A dying job is destroyed at the moment when it
//! is empty, so inner jobs end before outer ones. A process that would not end (`Outcome::Left`)
//! keeps its job dying; killing again tries again.

use crate::command::KillReason;
use crate::error::KillError;
use crate::link::Links;
use crate::manager::Core;
use crate::types::State;
use crate::types::job::{self, Turn};
use crate::types::process::Life;
use kobj_abi::{Koid, LinkKind, ObjectType};
use kobj_memory::{Place, Reference};

/// Which children are visited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Inner jobs: go down.
    Jobs,
    /// All else: end it.
    Members,
}

/// What is done to members.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Pass {
    /// Living processes are asked to end.
    #[default]
    Processes,
    /// All else is destroyed.
    Others,
}

/// A job whose children are being visited.
#[derive(Clone, Copy)]
struct Frame {
    job: Reference,
    phase: Phase,
    /// The next link to look at.
    cursor: Option<Place>,
}

/// What the killer has before it.
pub(crate) struct Kill {
    /// Jobs that were asked for and not yet begun, linked through their states ([`job::Turn`]).
    first: Option<Place>,
    last: Option<Place>,
    /// From the job being killed down to the one being visited: no deeper than jobs nest.
    stack: [Option<Frame>; job::DEPTH_MOST as usize + 1],
    depth: usize,
    pass: Pass,
}

impl Default for Kill {
    fn default() -> Self {
        Self { first: None, last: None, stack: [None; _], depth: 0, pass: Pass::default() }
    }
}

impl Kill {
    pub(crate) fn is_busy(&self) -> bool {
        self.first.is_some() || self.depth > 0
    }

    fn top(&mut self) -> Option<&mut Frame> {
        self.stack.get_mut(self.depth.checked_sub(1)?)?.as_mut()
    }

    /// A link is about to go: whoever stands on it takes a step.
    pub(crate) fn passes(&mut self, link: Place, links: &Links) {
        for frame in self.stack[..self.depth].iter_mut().flatten().filter(|frame| frame.cursor == Some(link)) {
            frame.cursor = links.get(link).and_then(|record| record.next_out);
        }
    }
}

impl Core {
    pub(crate) fn do_kill_job(&mut self, koid: Koid) -> Result<(), KillError> {
        let job = self.find(koid)?;
        if self.job(job).is_none() {
            return Err(self.wrong_type(job, ObjectType::Job).into());
        }
        self.let_die(job);
        self.queue_kill(job);
        Ok(())
    }

    /// A job takes nothing new from now on, by no lease either.
    fn let_die(&mut self, job: Reference) {
        self.unlist(job);
        let Some(state) = self.job_mut(job) else { return };
        state.die();
        if let Some(account) = state.account {
            self.close_leases(account);
        }
    }

    /// Puts a job behind those to be killed. Asked again while it waits, it changes nothing.
    fn queue_kill(&mut self, job: Reference) {
        let previous = self.kill.last;
        let Some(turn) = self.job_mut(job).map(|job| &mut job.turn).filter(|turn| !turn.waits) else { return };
        *turn = Turn { waits: true, previous, next: None };
        match previous.and_then(|previous| self.turn_at(previous)) {
            Some(turn) => turn.next = Some(job.place()),
            None => self.kill.first = Some(job.place()),
        }
        self.kill.last = Some(job.place());
    }

    fn turn_at(&mut self, place: Place) -> Option<&mut Turn> {
        let job = self.slab.at(place).ok()?;
        self.job_mut(job).map(|job| &mut job.turn)
    }

    /// A job that waited to be killed waits no longer: it is its turn, or it is no more.
    pub(crate) fn leave_kill_queue(&mut self, turn: Turn) {
        if !turn.waits {
            return;
        }
        match turn.previous.and_then(|previous| self.turn_at(previous)) {
            Some(previous) => previous.next = turn.next,
            None => self.kill.first = turn.next,
        }
        match turn.next.and_then(|next| self.turn_at(next)) {
            Some(next) => next.previous = turn.previous,
            None => self.kill.last = turn.previous,
        }
    }

    fn next_to_kill(&mut self) -> Option<Reference> {
        let job = self.slab.at(self.kill.first?).ok()?;
        let turn = core::mem::take(&mut self.job_mut(job)?.turn);
        self.leave_kill_queue(turn);
        Some(job)
    }

    /// How many jobs wait to be killed.
    #[cfg(test)]
    pub(crate) fn waiting_to_be_killed(&mut self) -> usize {
        let mut next = self.kill.first;
        core::iter::from_fn(|| {
            next = self.turn_at(next?)?.next;
            Some(())
        })
        .count()
    }

    fn enter(&mut self, job: Reference) {
        let Ok(header) = self.slab.header(job) else { return };
        let cursor = header.first_out();
        self.let_die(job);
        // Deeper than jobs nest there is none.
        if let Some(free) = self.kill.stack.get_mut(self.kill.depth) {
            *free = Some(Frame { job, phase: Phase::Jobs, cursor });
            self.kill.depth += 1;
        }
    }

    /// One unit of killing; `false` if there is nothing to do.
    pub(crate) fn kill_one(&mut self) -> bool {
        let Some(frame) = self.kill.top() else {
            let Some(job) = self.next_to_kill() else { return false };
            self.kill.pass = Pass::Processes;
            self.enter(job);
            return true;
        };
        let (job, phase) = (frame.job, frame.phase);
        let Some(link) = frame.cursor else {
            self.end_of_children(job, phase);
            return true;
        };
        let record = self.links.get(link).copied();
        frame.cursor = record.and_then(|record| record.next_out);
        let child = record
            .filter(|record| record.kind() == Some(LinkKind::Contains))
            .and_then(|record| self.slab.at(record.target?).ok());
        if let Some(child) = child {
            self.kill_child(job, child, phase);
        }
        true
    }

    fn end_of_children(&mut self, job: Reference, phase: Phase) {
        let first = self.slab.header(job).ok().and_then(|header| header.first_out());
        if phase == Phase::Jobs
            && let Some(frame) = self.kill.top()
        {
            frame.phase = Phase::Members;
            frame.cursor = first;
            return;
        }
        self.kill.depth -= 1;
        if self.kill.pass == Pass::Processes {
            if self.kill.depth == 0 {
                self.kill.pass = Pass::Others;
                self.enter(job);
            }
            return;
        }
        if self.job(job).is_some_and(|state| state.is_over()) {
            self.destroy(job);
        }
    }

    fn kill_child(&mut self, job: Reference, child: Reference, phase: Phase) {
        let pass = self.kill.pass;
        match (self.state(child), phase) {
            (Some(State::Job(_)), Phase::Jobs) => self.enter(child),
            (Some(State::Process(process)), Phase::Members) => match (process.life, pass) {
                (Life::Living, Pass::Processes) if process.guest.is_some() => {
                    self.end_guest(child, Some(KillReason::JobKilled));
                }
                // Refused only if it has too many references: tried again by the next kill.
                (Life::Living, Pass::Processes) => drop(self.do_end_process(child.koid())),
                (Life::Ended, Pass::Others) => self.end_or_leave_behind(job, child),
                _ => {}
            },
            (Some(State::Job(_)), Phase::Members) if pass == Pass::Others => self.leave_ended_job(job, child),
            (Some(State::Job(_)), Phase::Members) | (_, Phase::Jobs) => {}
            (_, Phase::Members) if pass == Pass::Others => self.end_or_leave_behind(job, child),
            _ => {}
        }
    }

    /// What nobody has a handle to is destroyed; what somebody has lives on in the job around, unnamed.
    fn end_or_leave_behind(&mut self, job: Reference, child: Reference) {
        if self.body(child).is_none() {
            // A user's object is in the job for its name's sake: without that it goes, or is somebody's.
            self.lose_name(child.place());
        } else if self.handles_to(child) > 0 || self.views_of(child) > 0 {
            self.let_go(child);
            self.leave_behind(child, job);
        } else {
            self.destroy(child);
        }
    }

    /// An inner job that has ended, and stays because somebody has a handle to it, goes to the job around.
    fn leave_ended_job(&mut self, job: Reference, child: Reference) {
        let has_ended = self.body(child).is_some_and(|body| !body.hold);
        if has_ended {
            self.leave_behind(child, job);
        }
    }
}
