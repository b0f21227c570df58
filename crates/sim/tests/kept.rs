//! Scripts in which the manager and the model once differed, cut down and kept.

use kobj_core::Resource::*;
use kobj_sim::calls::Ask::*;
use kobj_sim::calls::Asked::*;
use kobj_sim::calls::Make::*;
use kobj_sim::calls::Ref::*;
use kobj_sim::calls::{Bounds, Driven, Step, replay, step, text};

const MANY: Bounds = Bounds::NONE;

/// In a manager with these bounds.
fn agrees(bounds: Bounds, script: &[Step]) {
    replay::<Driven<1_000_000>>(bounds, script).and_then(|world| world.finish()).unwrap();
    replay::<Driven<1>>(bounds, script).and_then(|world| world.finish()).unwrap();
}

/// The killer stood on the inner job when that went to the job around, went with it, and ended what was there.
#[test]
fn the_killer_stays_in_its_job() {
    agrees(
        MANY,
        &[
            step(3, 0, CreateJob(Of(0))),
            step(230, 0, CreateJob(Of(3))),
            step(233, 0, CreateGuest(Of(230), false)),
            step(394, 0, CreateGuest(Of(3), false)),
            step(594, 0, Transfer(Of(233), Of(394), Same)),
            step(604, 394, Kill(Of(594))),
            step(677, 0, Transfer(Of(3), Of(394), Same)),
            step(707, 394, Kill(Of(677))),
        ],
    );
}

/// A job that was killed lost its name only if nobody had a handle to it.
#[test]
fn an_ended_job_has_no_name() {
    agrees(
        MANY,
        &[
            step(25, 0, Create(Directory)),
            step(174, 0, CreateJob(Of(0))),
            step(216, 0, Link(Of(25), text(b"d"), Of(174), Same, true)),
            step(465, 0, Kill(Of(174))),
        ],
    );
}

/// A directory that outlived its job refused permanent names, as if it were ending itself.
#[test]
fn a_directory_that_outlived_its_job_takes_permanent_names() {
    agrees(
        MANY,
        &[
            step(1, 0, CreateJob(Of(0))),
            step(2, 0, CreateGuest(Of(1), false)),
            step(3, 0, Create(Directory)),
            step(4, 0, Transfer(Myself, Of(2), Same)),
            step(5, 2, Create(Directory)),
            step(6, 2, Transfer(Of(5), Of(4), Same)),
            step(7, 0, Kill(Of(1))),
            step(8, 0, Link(Of(6), text(b"a"), Of(3), Same, true)),
            step(9, 0, Kill(Of(1))),
            step(10, 0, Close(Of(3))),
            step(11, 0, Unlink(Of(6), text(b"a"))),
        ],
    );
}

/// Ids that had run out were reported before a quota, which comes first.
#[test]
fn a_quota_is_reported_before_ids_that_have_run_out() {
    agrees(
        Bounds { koids: 5, ..MANY },
        &[
            step(1, 0, Create(Directory)),
            step(2, 0, SetQuota(Myself, Objects, 1)),
            step(3, 0, Create(Directory)),
            step(4, 0, SetQuota(Myself, Objects, 2)),
            step(5, 0, Create(Directory)),
        ],
    );
}

/// The number of an account was taken for the place of a process.
#[test]
fn a_handle_comes_from_the_process_that_derived_it() {
    agrees(
        MANY,
        &[
            step(1, 0, CreateGuest(Of(0), true)),
            step(2, 1, Create(Directory)),
            step(3, 1, Derive(Of(2), Same)),
            step(4, 1, DerivedFrom(Of(3))),
        ],
    );
}
