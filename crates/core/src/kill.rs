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
use crate::types::process::Life;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
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
struct Frame {
    job: Reference,
    phase: Phase,
    /// The next link to look at.
    cursor: Option<Place>,
}

/// What the killer has before it.
#[derive(Default)]
pub(crate) struct Kill {
    /// Jobs that were asked for and not yet begun.
    queue: VecDeque<Reference>,
    /// From the job being killed down to the one being visited: no deeper than jobs nest.
    stack: Vec<Frame>,
    pass: Pass,
}

impl Kill {
    pub(crate) fn is_busy(&self) -> bool {
        !self.queue.is_empty() || !self.stack.is_empty()
    }

    /// How many jobs wait to be begun.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// A link is about to go: whoever stands on it takes a step.
    pub(crate) fn passes(&mut self, link: Place, links: &Links) {
        for frame in self.stack.iter_mut().filter(|frame| frame.cursor == Some(link)) {
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
        if let Some(state) = self.job_mut(job) {
            state.die();
        }
        // Asking again while it is queued changes nothing; the queue is no longer than there are jobs.
        if !self.kill.queue.contains(&job) {
            self.kill.queue.push_back(job);
        }
        Ok(())
    }

    fn enter(&mut self, job: Reference) {
        let Ok(header) = self.slab.header(job) else { return };
        let cursor = header.first_out();
        if let Some(state) = self.job_mut(job) {
            state.die();
        }
        self.kill.stack.push(Frame { job, phase: Phase::Jobs, cursor });
    }

    /// One unit of killing; `false` if there is nothing to do.
    pub(crate) fn kill_one(&mut self) -> bool {
        let Some(frame) = self.kill.stack.last_mut() else {
            let Some(job) = self.kill.queue.pop_front() else { return false };
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
            && let Some(frame) = self.kill.stack.last_mut()
        {
            frame.phase = Phase::Members;
            frame.cursor = first;
            return;
        }
        self.kill.stack.pop();
        if self.kill.pass == Pass::Processes {
            if self.kill.stack.is_empty() {
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
        if self.handles_to(child) > 0 || self.views_of(child) > 0 {
            self.let_go(child);
            self.leave_behind(child, job);
        } else {
            let _loose_ends = self.destroy(child);
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
