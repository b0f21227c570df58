//! The process that a lock or pid file names, if that very process is still alive.

use crate::classify::{first_pid, path_of};
use crate::identity::Stat;
use crate::kind::Verdict;
use crate::proc::Proc;
use crate::quarantine;
use crate::tree;
use crate::view::View;
use kobj_abi::HoldHow;
use kobj_core::image::{Holder, HostImage, Time};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::AsFd;

/// How much is read of a file to find a pid on its first line, in bytes.
const HEAD_BYTES: usize = 512;

/// A file may be stamped by a coarser clock than processes are.
const SLACK_US: i64 = 2_000_000;

/// Objects if the file names a process that is alive, and that was there when the file was last changed: one that
/// started later only has the same number.
pub(crate) fn named_owner_is_gone(view: &View, image: &HostImage) -> Result<(), Verdict> {
    let mut ignore = |_| {};
    let mut hands = crate::hands::Hands::new(&mut ignore);
    let place = quarantine::place(&mut hands, path_of(image))?;
    let (pointer, stat) = quarantine::point(&place, &image.identity)?;
    let head = match tree::read_pointed(pointer.as_fd(), HEAD_BYTES) {
        Ok(head) => head,
        Err(error) => return Err(Verdict::Unknown(format!("cannot read {}: {error}", place.full()))),
    };
    let Some(pid) = first_pid(&head) else { return Ok(()) };
    match alive(view, pid, &stat) {
        Ok(None) => Ok(()),
        Ok(Some(holder)) => Err(Verdict::InUse(vec![holder], format!("it names process {pid}, which is alive"))),
        Err(error) => Err(Verdict::Unknown(format!("cannot tell whether process {pid} is alive: {error}"))),
    }
}

fn alive(view: &View, pid: u32, stat: &Stat) -> std::io::Result<Option<Holder>> {
    let life = match Proc::open(&view.proc)?.life(pid) {
        Ok(life) => life,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Where processes are hidden, one that is not shown may be there all the same.
            return match crate::kinds::process::hidden(view) {
                Some(why) => Err(std::io::Error::other(why)),
                None => Ok(None),
            };
        }
        Err(error) => return Err(error),
    };
    let Some(process) = life.stat() else { return Ok(None) };
    if process.is_dead() || started_at(process.started).0 > stat.changed.0 + SLACK_US {
        return Ok(None);
    }
    Ok(Some(Holder { pid, command: life.command(), how: HoldHow::Lock }))
}

/// When a process started, from its start time in ticks since boot.
fn started_at(ticks: u64) -> Time {
    let us = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000)
    };
    let boot = us(ClockId::Realtime) - us(ClockId::Boottime);
    let per_second = u128::from(rustix::param::clock_ticks_per_second().max(1));
    let since = u128::from(ticks) * 1_000_000 / per_second;
    Time(boot.saturating_add(i64::try_from(since).unwrap_or(i64::MAX)))
}
