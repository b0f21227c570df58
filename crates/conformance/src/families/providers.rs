//! What is listed by looking up: types, jobs and what is in them, host objects.

use crate::calls::*;
use crate::row::rows;
use crate::world::{holds, same};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{AccessDenied, BadArgument, NotFound, WrongName, WrongType};
use kobj_abi::{HostKind, ObjectType, Rights};

const TYPES: [&str; 7] = ["job", "process", "host-object", "directory", "symbolic-link", "section", "type"];

rows! { Providers:
    /// The system directory has three names, and its handle looks, lists and can be passed on. [docs/semantics.md, System]
    plain fn the_system_directory_has_types_jobs_and_host(w) {
        let me = w.first;
        let system = w.system(me)?;
        same(w.names(me, system)?.as_str(), "types jobs host")?;
        let looks = Rights::LOOKUP | Rights::ENUMERATE | Rights::INSPECT | Rights::DUPLICATE | Rights::TRANSFER;
        same(w.rights(me, system)?, looks)?;
    }

    /// It is one, however often it is asked for. [docs/semantics.md, System]
    plain fn it_is_one_directory(w) {
        let me = w.first;
        let (first, second) = (w.system(me)?, w.system(me)?);
        same(w.koid(me, first)?, w.koid(me, second)?)?;
    }

    /// Each type is listed, built-in ones first, by an object of its own. [docs/semantics.md, System]
    plain fn each_type_is_listed(w) {
        let me = w.first;
        let system = w.system(me)?;
        let types = w.gives(me, open(system, b"types"))?;
        let list = w.list(me, types)?;
        let names: Vec<String> = list.iter().map(|e| String::from_utf8_lossy(e.name.as_bytes()).into_owned()).collect();
        same(names.get(..TYPES.len()), Some(&TYPES.map(String::from)[..]))?;
        same(list.len(), TYPES.len() + 1)?;
        for (name, entry) in names.iter().zip(&list) {
            same(entry.object_type, ObjectType::Type.number())?;
            holds(!entry.permanent, "being listed is no name")?;
            let opened = w.gives(me, open(types, name.as_bytes()))?;
            same((w.koid(me, opened)?, w.rights(me, opened)?), (entry.koid, entry.most))?;
        }
    }

    /// A type is opened of its type alone, like all else. [docs/semantics.md, open]
    refusal fn a_type_is_no_directory(w) {
        let me = w.first;
        let system = w.system(me)?;
        w.gives(me, open_typed(system, b"types/job", ObjectType::Type))?;
        w.refused(me, open_typed(system, b"types/job", ObjectType::Job), WrongType)?;
        w.refused(me, open(system, b"types/job/x"), WrongType)?;
        w.refused(me, open(system, b"types/none"), NotFound)?;
    }

    /// What is listed grants looking at it, and not silently less than is asked. [docs/semantics.md, System]
    refusal fn what_is_listed_is_looked_at_alone(w) {
        let me = w.first;
        let system = w.system(me)?;
        let job = w.gives(me, create_job(w.job))?;
        let path = format!("jobs/{}", w.koid(me, job)?);
        let looks = Rights::INSPECT | Rights::ENUMERATE | Rights::DUPLICATE | Rights::TRANSFER;
        for path in [path.as_bytes(), b"types/section"] {
            for right in [Rights::MANAGE, Rights::DESTROY, Rights::CREATE_CHILD] {
                w.refused(me, open_with(system, path, only(looks | right)), AccessDenied)?;
            }
            let opened = w.gives(me, open(system, path))?;
            same(w.rights(me, opened)?, looks)?;
        }
        let opened = w.gives(me, open(system, path.as_bytes()))?;
        w.refused(me, kill(opened), AccessDenied)?;
        w.refused(me, create_job(opened), AccessDenied)?;
    }

    /// The living jobs are listed in the order in which they were made. [docs/semantics.md, System]
    order fn jobs_are_listed_while_they_live(w) {
        let me = w.first;
        let system = w.system(me)?;
        let jobs = w.gives(me, open(system, b"jobs"))?;
        same(w.names(me, jobs)?.as_str(), "")?;
        let first = w.gives(me, create_job(w.job))?;
        let second = w.gives(me, create_job(w.job))?;
        let (one, two) = (w.koid(me, first)?, w.koid(me, second)?);
        same(w.names(me, jobs)?, format!("{one} {two}"))?;
        w.done(me, kill(first))?;
        same(w.names(me, jobs)?, two.to_string())?;
        w.done(me, close(second))?;
        same(w.names(me, jobs)?.as_str(), "")?;
    }

    /// A cursor goes on where it was given, whatever went. [docs/semantics.md, enumerate]
    order fn a_cursor_passes_jobs_that_ended(w) {
        let me = w.first;
        let system = w.system(me)?;
        let jobs = w.gives(me, open(system, b"jobs"))?;
        let made = [(); 4].map(|()| w.gives(me, create_job(w.job)));
        let mut handles = Vec::new();
        for handle in made {
            handles.push(handle?);
        }
        let cursor = w.list(me, jobs)?.get(1).map_or(0, |entry| entry.cursor);
        w.done(me, kill(handles[1]))?;
        w.done(me, kill(handles[2]))?;
        let rest: Vec<_> = w.list_from(me, jobs, cursor)?.iter().map(|entry| entry.koid).collect();
        same(rest, Vec::from([w.koid(me, handles[3])?]))?;
        same(w.list_from(me, jobs, u64::MAX)?.len(), 0)?;
    }

    /// An inner job stands below the one that it is in, and nowhere else. [docs/semantics.md, System]
    refusal fn an_inner_job_stands_below_its_own(w) {
        let me = w.first;
        let system = w.system(me)?;
        let outer = w.gives(me, create_job(w.job))?;
        let other = w.gives(me, create_job(w.job))?;
        let inner = w.gives(me, create_job(outer))?;
        let (outer, other, koid) = (w.koid(me, outer)?, w.koid(me, other)?, w.koid(me, inner)?);
        let opened = w.gives(me, open(system, format!("jobs/{outer}/{koid}").as_bytes()))?;
        same(w.koid(me, opened)?, koid)?;
        for path in [format!("jobs/{koid}"), format!("jobs/{other}/{koid}"), format!("jobs/{outer}/{other}")] {
            w.refused(me, open(system, path.as_bytes()), NotFound)?;
        }
    }

    /// A job lists what lives in it, jobs and guests, in the order in which they were made.
    /// [Zircon zx_object_get_info: ZX_INFO_JOB_CHILDREN]
    order fn a_job_lists_its_jobs_and_guests(w) {
        let me = w.first;
        let outer = w.gives(me, create_job(w.job))?;
        same(w.list(me, outer)?.len(), 0)?;
        let first = w.guest_in(outer, false)?;
        let inner = w.gives(me, create_job(outer))?;
        let second = w.guest_in(outer, false)?;
        let below = w.guest_in(inner, false)?;
        let koid = w.koid(me, inner)?;
        same(w.names(me, outer)?, format!("{} {koid} {}", first.process, second.process))?;
        same(w.names(me, inner)?, below.process.to_string())?;
        let looks = Rights::INSPECT | Rights::DUPLICATE | Rights::TRANSFER;
        for entry in w.list(me, outer)? {
            let is_job = entry.koid == koid;
            same(entry.object_type, if is_job { ObjectType::Job } else { ObjectType::Process }.number())?;
            same(entry.most, if is_job { looks | Rights::ENUMERATE } else { looks })?;
            holds(!entry.permanent, "being listed is no name")?;
        }
        let cursor = w.list(me, outer)?.first().map_or(0, |entry| entry.cursor);
        w.done(me, kill(first.handle))?;
        w.done(me, kill(inner))?;
        same(w.list_from(me, outer, cursor)?.len(), 1)?;
        same(w.names(me, outer)?, second.process.to_string())?;
        w.done(me, kill(outer))?;
        same(w.list(me, outer)?.len(), 0)?;
    }

    /// A job is listed with the right to that, also one that was opened where it is listed.
    /// [Zircon zx_object_get_info: ZX_RIGHT_ENUMERATE]
    refusal fn a_job_is_listed_with_enumerate(w) {
        let me = w.first;
        let outer = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(outer, false)?;
        let blind = w.weaker(me, outer, Rights::INSPECT | Rights::MANAGE | Rights::CREATE_CHILD)?;
        w.refused(me, enumerate(blind, 0), AccessDenied)?;
        w.refused(me, enumerate(guest.handle, 0), WrongType)?;
        let system = w.system(me)?;
        let path = format!("jobs/{}", w.koid(me, outer)?);
        let opened = w.gives(me, open(system, path.as_bytes()))?;
        same(w.names(me, opened)?, guest.process.to_string())?;
        w.refused(me, link(opened, b"x", guest.handle), WrongType)?;
    }

    /// A guest is opened below its job, of no other right than to look, and is passed by no path. [docs/semantics.md, System]
    refusal fn a_guest_is_opened_below_its_job(w) {
        let me = w.first;
        let system = w.system(me)?;
        let outer = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(outer, false)?;
        let outer = w.koid(me, outer)?;
        let path = format!("jobs/{outer}/{}", guest.process);
        let opened = w.gives(me, open_typed(system, path.as_bytes(), ObjectType::Process))?;
        same(w.koid(me, opened)?, guest.process)?;
        same(w.rights(me, opened)?, Rights::INSPECT | Rights::DUPLICATE | Rights::TRANSFER)?;
        w.refused(me, kill(opened), AccessDenied)?;
        for right in [Rights::ENUMERATE, Rights::WRITE, Rights::DESTROY, Rights::MANAGE] {
            w.refused(me, open_with(system, path.as_bytes(), only(right)), AccessDenied)?;
        }
        w.refused(me, open(system, format!("{path}/{}", guest.process).as_bytes()), WrongType)?;
        w.refused(me, open(system, format!("jobs/{}", guest.process).as_bytes()), NotFound)?;
        w.done(me, kill(guest.handle))?;
        w.refused(me, open(system, path.as_bytes()), NotFound)?;
    }

    /// Each kind of host object has a directory, in the order of the kinds, and what is no object of it is not there.
    /// [docs/semantics.md, System]
    refusal fn each_kind_of_host_object_has_a_directory(w) {
        let me = w.first;
        let system = w.system(me)?;
        let host = w.gives(me, open(system, b"host"))?;
        let root_job = format!("{}", w.root_job);
        let kinds = HostKind::ALL.map(|kind| format!("{}{}", kind.name(), kind.plural_ending()));
        same(w.names(me, host)?, kinds.join(" "))?;
        for entry in w.list(me, host)? {
            let directory = w.gives(me, open(host, entry.name.as_bytes()))?;
            same(w.list(me, directory)?.len(), 0)?;
            w.refused(me, open(directory, root_job.as_bytes()), NotFound)?;
        }
        w.refused(me, open(host, root_job.as_bytes()), NotFound)?;
    }

    /// A job that has a name is passed by no path through that: only where it is listed. [docs/semantics.md, open]
    refusal fn a_named_job_is_no_directory(w) {
        let (me, root) = (w.first, w.root);
        let _system = w.system(me)?;
        let outer = w.gives(me, create_job(w.job))?;
        let inner = w.gives(me, create_job(outer))?;
        w.done(me, link(root, b"outer", outer))?;
        let path = format!("outer/{}", w.koid(me, inner)?);
        w.refused(me, open(root, path.as_bytes()), WrongType)?;
    }

    /// A koid has one spelling, and what is no job is not listed. [docs/semantics.md, System]
    refusal fn a_job_is_called_by_its_koid_alone(w) {
        let me = w.first;
        let system = w.system(me)?;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let koid = w.koid(me, job)?;
        let written = koid.to_string();
        let names = [
            written.to_uppercase().replace(':', "-"),
            format!("{:x}", koid.raw()),
            format!("{written}0"),
            format!("{}", guest.process),
            String::from("ffffffff:ffffffff"),
        ];
        for name in names {
            w.refused(me, open(system, format!("jobs/{name}").as_bytes()), NotFound)?;
        }
    }

    /// Being listed keeps nothing: a job ends with its last handle. [docs/semantics.md, System]
    order fn being_listed_keeps_nothing(w) {
        let me = w.first;
        let system = w.system(me)?;
        let job = w.gives(me, create_job(w.job))?;
        let path = format!("jobs/{}", w.koid(me, job)?);
        let opened = w.gives(me, open(system, path.as_bytes()))?;
        w.done(me, close(job))?;
        w.gives(me, open(system, path.as_bytes())).and_then(|again| w.done(me, close(again)))?;
        w.done(me, close(opened))?;
        w.refused(me, open(system, path.as_bytes()), NotFound)?;
    }

    /// Being listed is no name: what is listed can be named elsewhere, and is listed still. [docs/semantics.md, System]
    plain fn being_listed_is_no_name(w) {
        let (me, root) = (w.first, w.root);
        let system = w.system(me)?;
        let job = w.gives(me, create_job(w.job))?;
        let koid = w.koid(me, job)?;
        w.done(me, link(root, b"job", job))?;
        let section = w.gives(me, open(system, b"types/section"))?;
        w.done(me, link(root, b"section", section))?;
        w.gives(me, open(system, format!("jobs/{koid}").as_bytes()))?;
        w.gives(me, open(system, b"types/section"))?;
    }

    /// Nothing is named in them, unnamed, renamed or made, whatever the handle allows. [docs/semantics.md, System]
    refusal fn nothing_is_named_in_them(w) {
        let me = w.first;
        let system = w.system(me)?;
        let own = w.directory(me)?;
        for name in [&b"types"[..], b"jobs", b"host/segments"] {
            let directory = w.gives(me, open(system, name))?;
            w.refused(me, link(directory, b"x", own), AccessDenied)?;
            w.refused(me, unlink(directory, b"job"), AccessDenied)?;
            w.refused(me, rename(directory, b"job", b"x"), AccessDenied)?;
            w.refused(me, open_or_create(directory, b"job", SAME), AccessDenied)?;
            w.refused(me, create_new(directory, b"x", SAME), AccessDenied)?;
        }
        w.refused(me, link(system, b"x", own), AccessDenied)?;
        w.refused(me, unlink(system, b"types"), AccessDenied)?;
    }

    /// What is refused of names and paths is refused before anything is looked up. [docs/semantics.md, open]
    refusal fn bad_paths_are_refused_first(w) {
        let me = w.first;
        let system = w.system(me)?;
        for path in [&b"types//job"[..], b"types/", b"types/..", b"jobs/.", b"types/a\0b"] {
            w.refused(me, open(system, path), BadArgument)?;
        }
        let blind = w.gives(me, open_with(system, b"jobs", only(Rights::ENUMERATE)))?;
        w.refused(me, open(blind, b"x"), AccessDenied)?;
        let mute = w.gives(me, open_with(system, b"jobs", only(Rights::LOOKUP)))?;
        w.refused(me, enumerate(mute, 0), AccessDenied)?;
    }

    /// The system directory can be named, and links and paths lead through it like through any. [docs/semantics.md, open]
    plain fn paths_lead_through_them(w) {
        let (me, root) = (w.first, w.root);
        let system = w.system(me)?;
        w.done(me, link(root, b"system", system))?;
        let job = w.gives(me, create_job(w.job))?;
        let koid = w.koid(me, job)?;
        let _link = w.linked(me, root, b"jobs", b"system/jobs")?;
        let opened = w.gives(me, open(root, format!("jobs/{koid}").as_bytes()))?;
        same(w.koid(me, opened)?, koid)?;
        w.gives(me, open(root, b"system/types/type"))?;
        w.refused(me, open(root, b"jobs/../types"), BadArgument)?;
    }

    /// They have their names already, and one is the most that an object has. [docs/semantics.md, link]
    refusal fn they_are_named_once(w) {
        let (me, root) = (w.first, w.root);
        let system = w.system(me)?;
        let types = w.gives(me, open(system, b"types"))?;
        w.refused(me, link(root, b"types", types), WrongName)?;
    }
}
