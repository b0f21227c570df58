//! Scripts made up at random from a seed: calls that mostly mean something, and a third that must be refused.

use super::script::{Ask, Asked, Cursor, Make, Policy, Ref, Step, Text, repeat, text};
use super::view::Held;
use super::world::{Manager, World};
use kobj_abi::{Koid, ObjectType, RawHandle, Rights};
use kobj_core::{Resource, UNLIMITED};

/// What a script is mostly about, so that bounds are reached that a mixture rarely reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    Mixture,
    DeepJobs,
    DeepDirectories,
    SymbolicLinks,
    Derivation,
    Names,
    Quotas,
}

/// The calls, without their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Close,
    Duplicate,
    Replace,
    Derive,
    Revoke,
    Transfer,
    HandleInfo,
    SetInheritable,
    Create,
    CreateJob,
    CreateGuest,
    SetQuota,
    SetBadHandlePolicy,
    Recharge,
    Kill,
    Link,
    Unlink,
    Rename,
    Open,
    OpenOrCreate,
    Enumerate,
    SetPermanent,
    Inspect,
    ReadLink,
}

/// Makes steps up.
#[derive(Debug)]
pub struct Generator {
    state: u64,
    theme: Theme,
    last: u32,
    /// Whether the call under way could not be made up as it was meant.
    missed: bool,
    /// Steps that gave a handle, whatever became of it.
    given: Vec<u32>,
}

const BAD_NAMES: [&[u8]; 6] = [b"", b".", b"..", b"a/b", b"nul\0", b"/"];
const BAD_PATHS: [&[u8]; 7] = [b"", b"/a", b"a/", b"a//b", b"a/../b", b"./a", b"a\0/b"];

impl Generator {
    /// Steps of a script by that seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut generator = Self { state: seed, theme: Theme::Mixture, last: 0, missed: false, given: vec![0] };
        generator.theme = match generator.below(16) {
            0 => Theme::DeepJobs,
            1 => Theme::DeepDirectories,
            2 | 3 | 11 => Theme::SymbolicLinks,
            4..=6 => Theme::Derivation,
            7 | 8 => Theme::Names,
            9 | 10 => Theme::Quotas,
            _ => Theme::Mixture,
        };
        generator
    }

    /// Steps of a script that is mostly about what is derived and taken back.
    #[must_use]
    pub fn deriving(seed: u64) -> Self {
        Self { theme: Theme::Derivation, ..Self::new(seed) }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        (!list.is_empty()).then(|| list[self.below(list.len())])
    }

    /// The next step of a script; `None` when no guest lives any more.
    pub fn step<M: Manager>(&mut self, world: &World<M>) -> Option<Step> {
        let guests: Vec<(u32, Koid)> = world.guests().collect();
        let (living, ended): (Vec<_>, Vec<_>) = guests.into_iter().partition(|(_, koid)| world.model.calls(*koid));
        let ended = if self.percent(1) { self.pick(&ended) } else { None };
        let deep = matches!(self.theme, Theme::DeepJobs | Theme::DeepDirectories) && self.percent(80);
        let first = living.first().copied().filter(|_| deep);
        let (who, caller) = ended.or(first).or(self.pick(&living))?;
        self.last += 1;
        let mut ask = self.ask(world, caller);
        for _ in 0..5 {
            if !std::mem::take(&mut self.missed) {
                break;
            }
            ask = self.ask(world, caller);
        }
        self.given.push(self.last);
        let given = self.percent(4).then(|| self.below(6) as u32);
        Some(Step { id: self.last, who, ask, given })
    }

    /// How often each call is made up, by theme.
    fn kind(&mut self, crowded: bool) -> Kind {
        use Kind as K;
        const MIXTURE: &[(Kind, usize)] = &[
            (K::Close, 10),
            (K::Duplicate, 8),
            (K::Replace, 4),
            (K::Derive, 8),
            (K::Revoke, 4),
            (K::Transfer, 8),
            (K::HandleInfo, 2),
            (K::SetInheritable, 2),
            (K::Create, 8),
            (K::CreateJob, 3),
            (K::CreateGuest, 3),
            (K::SetQuota, 2),
            (K::SetBadHandlePolicy, 1),
            (K::Recharge, 4),
            (K::Kill, 2),
            (K::Link, 9),
            (K::Unlink, 3),
            (K::Rename, 4),
            (K::Open, 10),
            (K::OpenOrCreate, 8),
            (K::Enumerate, 6),
            (K::SetPermanent, 3),
            (K::Inspect, 5),
            (K::ReadLink, 3),
        ];
        let more: &[(Kind, usize)] = match self.theme {
            Theme::Mixture => &[],
            Theme::DeepJobs => &[(K::CreateJob, 120), (K::Close, 20)],
            Theme::DeepDirectories => &[(K::OpenOrCreate, 150), (K::Create, 20), (K::Link, 40), (K::Close, 20)],
            Theme::SymbolicLinks => &[(K::OpenOrCreate, 30), (K::Open, 50), (K::ReadLink, 5)],
            Theme::Quotas => &[(K::SetQuota, 10), (K::Recharge, 15), (K::CreateGuest, 4), (K::Transfer, 10)],
            Theme::Derivation => &[(K::Derive, 40), (K::Transfer, 15), (K::Revoke, 8), (K::Replace, 5)],
            Theme::Names => {
                &[(K::Link, 30), (K::OpenOrCreate, 20), (K::Rename, 15), (K::Enumerate, 30), (K::Unlink, 8)]
            }
        };
        let closes: &[(Kind, usize)] = if crowded { &[(K::Close, 100)] } else { &[] };
        let all = [MIXTURE, more, closes].concat();
        let mut at = self.below(all.iter().map(|(_, share)| share).sum());
        for (kind, share) in all {
            if at < share {
                return kind;
            }
            at -= share;
        }
        K::HandleInfo
    }

    fn ask<M: Manager>(&mut self, world: &World<M>, caller: Koid) -> Ask {
        use ObjectType::{Job, Process};
        let crowded = world.model.handles_of(caller).count() > 60 || world.model.all().len() > 150;
        let kind = self.kind(crowded);
        let wrong = self.percent(11);
        match kind {
            Kind::Close => Ask::Close(self.any(world, caller, wrong)),
            Kind::Duplicate => {
                let (handle, held) = self.handle(world, caller, &[], Rights::DUPLICATE, wrong);
                Ask::Duplicate(handle, self.rights(held))
            }
            Kind::Replace => {
                let (handle, held) = self.handle(world, caller, &[], Rights::NONE, wrong);
                Ask::Replace(handle, self.rights(held))
            }
            Kind::Derive => {
                let (handle, held) = self.handle(world, caller, &[], Rights::DUPLICATE, wrong);
                Ask::Derive(handle, self.rights(held))
            }
            Kind::Revoke => Ask::Revoke(self.handle(world, caller, &[], Rights::DUPLICATE, wrong).0),
            Kind::Transfer => {
                let first = wrong && self.percent(50);
                let (handle, held) = self.handle(world, caller, &[], Rights::TRANSFER, first);
                let (process, _) = self.handle(world, caller, &[Process], Rights::WRITE, wrong && !first);
                Ask::Transfer(handle, process, self.rights(held))
            }
            Kind::HandleInfo => Ask::HandleInfo(self.any(world, caller, wrong)),
            Kind::SetInheritable => Ask::SetInheritable(self.any(world, caller, wrong), self.percent(80)),
            Kind::Create => Ask::Create(self.make()),
            Kind::CreateJob => Ask::CreateJob(self.handle(world, caller, &[Job], Rights::CREATE_CHILD, wrong).0),
            Kind::CreateGuest => {
                let (job, _) = self.handle(world, caller, &[Job], Rights::CREATE_CHILD, wrong);
                Ask::CreateGuest(job, self.percent(50))
            }
            Kind::SetQuota => self.quota(world, caller, wrong),
            Kind::SetBadHandlePolicy => {
                let (job, _) = self.handle(world, caller, &[Job], Rights::MANAGE, wrong);
                let policy = [Policy::Nothing, Policy::Told, Policy::Told, Policy::Ended][self.below(4)];
                Ask::SetBadHandlePolicy(job, policy)
            }
            Kind::Recharge => self.recharge(world, caller, wrong),
            Kind::Kill => self.kill(world, caller, wrong),
            Kind::Link => self.link(world, caller, wrong),
            kind => self.ask_names(world, caller, kind, wrong),
        }
    }

    /// The calls about names, and questions.
    fn ask_names<M: Manager>(&mut self, world: &World<M>, caller: Koid, kind: Kind, wrong: bool) -> Ask {
        use ObjectType::{Directory, SymbolicLink};
        match kind {
            Kind::Unlink => {
                let (directory, held) = self.handle(world, caller, &[Directory], Rights::REMOVE, wrong);
                Ask::Unlink(directory, self.taken_name(world, held))
            }
            Kind::Rename => {
                let (directory, held) = self.handle(world, caller, &[Directory], Rights::MANAGE, wrong);
                Ask::Rename(directory, self.taken_name(world, held), self.new_name())
            }
            Kind::Open => {
                let (directory, held) = self.handle(world, caller, &[Directory], Rights::LOOKUP, wrong);
                let path = self.path(world, held);
                let expected = self.percent(10).then(|| self.below(8) as u16);
                Ask::Open(directory, path, self.rights(held), expected, self.percent(80))
            }
            Kind::OpenOrCreate => {
                let needed = Rights::LOOKUP | Rights::CREATE;
                let (directory, held) = self.handle(world, caller, &[Directory], needed, wrong);
                let name = if self.percent(60) { self.new_name() } else { self.taken_name(world, held) };
                Ask::OpenOrCreate(directory, name, self.make(), self.rights(held), self.percent(25))
            }
            Kind::Enumerate => {
                let (directory, _) = self.handle(world, caller, &[Directory], Rights::ENUMERATE, wrong);
                Ask::Enumerate(directory, self.cursor(world))
            }
            Kind::SetPermanent => {
                let (handle, held) = self.handle(world, caller, &[], Rights::MANAGE, wrong);
                self.missed |= held.is_some_and(|held| world.model.is_unnamed(held.koid)) && self.percent(80);
                Ask::SetPermanent(handle, self.percent(60))
            }
            Kind::Inspect => {
                let handle = self.handle(world, caller, &[], Rights::INSPECT, wrong).0;
                [Ask::Why, Ask::Why, Ask::Holders, Ask::KeptBy, Ask::DerivedFrom][self.below(5)](handle)
            }
            _ => Ask::ReadLink(self.handle(world, caller, &[SymbolicLink], Rights::READ, wrong).0),
        }
    }

    // Handles.

    /// A handle of these types (any, if there are none) with these rights, or one that is wrong somehow.
    fn handle<M: Manager>(
        &mut self,
        world: &World<M>,
        caller: Koid,
        types: &[ObjectType],
        rights: Rights,
        wrong: bool,
    ) -> (Ref, Option<Held>) {
        let fits = |held: &Held| types.is_empty() || types.contains(&world.model.type_of(held.koid));
        let all: Vec<(RawHandle, Held)> = world.model.handles_of(caller).collect();
        let wanted = |is_wanted: &dyn Fn(&Held) -> bool| -> Vec<(RawHandle, Held)> {
            all.iter().copied().filter(|(_, held)| is_wanted(held)).collect()
        };
        let from = match if wrong { self.below(6) } else { 6 } {
            0 => return (self.pick(&self.given.clone()).map_or(Ref::MadeUp(1), Ref::Of), None),
            1 => {
                let bits = 1 << self.below(64);
                return (Ref::Near(self.pick(&self.given.clone()).unwrap_or(0), bits), None);
            }
            2 => return (Ref::MadeUp(self.next()), None),
            3 => wanted(&|held| !fits(held)),
            4 | 5 => wanted(&|held| fits(held) && !held.rights.contains(rights)),
            _ => wanted(&|held| fits(held) && held.rights.contains(rights)),
        };
        // Where a chain is to become long, its end goes on.
        let depth = |held: &Held| match self.theme {
            Theme::DeepJobs | Theme::DeepDirectories => world.model.depth(held.koid),
            _ => held.node as usize,
        };
        let goes_on = matches!(self.theme, Theme::DeepJobs | Theme::DeepDirectories | Theme::Derivation);
        let deepest = from.iter().copied().max_by_key(|(_, held)| depth(held)).filter(|_| goes_on);
        let latest = deepest.filter(|_| self.percent(80));
        self.missed |= from.is_empty();
        let found = latest.or_else(|| self.pick(&from)).or_else(|| self.pick(&all));
        match found.and_then(|(value, held)| Some((*world.steps.get(&value)?, Some(held)))) {
            Some(found) => found,
            None => (Ref::MadeUp(self.next()), None),
        }
    }

    fn any<M: Manager>(&mut self, world: &World<M>, caller: Koid, wrong: bool) -> Ref {
        let of = if wrong { self.below(3) } else { 3 };
        match of {
            0 | 1 => Ref::Of(self.pick(&self.given.clone()).unwrap_or(0)),
            2 => Ref::MadeUp(self.next()),
            _ => self.handle(world, caller, &[], Rights::NONE, false).0,
        }
    }

    /// Rights of which most are there to be given.
    fn rights(&mut self, held: Option<Held>) -> Asked {
        let there = held.map_or(Rights::GENERIC, |held| held.rights).bits();
        match self.below(40) {
            0..=21 => Asked::Same,
            22..=32 => Asked::Bits(there),
            33..=36 => Asked::Bits(there & (self.next() | self.next()) as u32),
            37 => Asked::Bits(there & self.next() as u32),
            38 => Asked::Bits(there | 1 << self.pick(&[0, 1, 2, 3, 5, 8, 9, 16, 17, 20, 31]).unwrap_or(0)),
            _ => Asked::Bits(there | 1 << (10 + self.below(6))),
        }
    }

    fn kill<M: Manager>(&mut self, world: &World<M>, caller: Koid, wrong: bool) -> Ask {
        use ObjectType::{Job, Process};
        let types: &[ObjectType] = if self.percent(60) { &[Process] } else { &[Job] };
        let (handle, held) = self.handle(world, caller, types, Rights::DESTROY, wrong);
        // The first guest's end is rare: it ends most of what goes on.
        let is_first = held.is_some_and(|held| world.first_guest() == held.koid);
        if is_first && self.percent(90) { Ask::HandleInfo(handle) } else { Ask::Kill(handle) }
    }

    /// A limit near what there is.
    fn quota<M: Manager>(&mut self, world: &World<M>, caller: Koid, wrong: bool) -> Ask {
        use ObjectType::{Directory, Job, Process};
        let (handle, held) = self.handle(world, caller, &[Job, Process], Rights::MANAGE, wrong);
        let directories = Resource::ObjectsOf(Directory.number());
        let resource = [Resource::Objects, directories, Resource::Handles, Resource::Bytes][self.below(4)];
        let model = &world.model;
        let used = held.map_or(1, |held| model.usage(&model.used(), held.koid, resource).used);
        let more = self.below(if resource == Resource::Bytes { 3000 } else { 12 }) as u64;
        let limit = match self.below(12) {
            0..=5 => UNLIMITED,
            6 => used.saturating_sub(more),
            _ => used + more,
        };
        Ask::SetQuota(handle, resource, limit)
    }

    fn recharge<M: Manager>(&mut self, world: &World<M>, caller: Koid, wrong: bool) -> Ask {
        use ObjectType::{Directory, Job, Process, SymbolicLink};
        let which = if wrong { self.below(3) } else { 3 };
        let types: &[ObjectType] = if self.percent(10) { &[Job, Process] } else { &[Directory, SymbolicLink] };
        let (handle, held) = self.handle(world, caller, types, Rights::MANAGE, which == 0);
        let owner = held.and_then(|held| world.model.owner_of(held.koid));
        let is_from = |(_, job): &(RawHandle, Held)| Some(job.koid) == owner && job.rights.contains(Rights::MANAGE);
        let from = world.model.handles_of(caller).find(is_from).filter(|_| which != 1 && self.percent(55));
        self.missed |= from.is_none() && which == 3 && self.percent(90);
        let from = match from.and_then(|(value, _)| world.steps.get(&value)) {
            Some(from) => *from,
            None => self.handle(world, caller, &[Job], Rights::MANAGE, which == 1).0,
        };
        let (to, _) = self.handle(world, caller, &[Job], Rights::MANAGE, which == 2);
        Ask::Recharge(handle, from, to)
    }

    fn link<M: Manager>(&mut self, world: &World<M>, caller: Koid, wrong: bool) -> Ask {
        let first = wrong && self.percent(50);
        let (directory, inside) = self.handle(world, caller, &[ObjectType::Directory], Rights::CREATE, first);
        let permanent = self.percent(30);
        let needed = if permanent { Rights::DUPLICATE | Rights::MANAGE } else { Rights::DUPLICATE };
        let above = inside.map(|inside| world.model.directories_from(inside.koid)).unwrap_or_default();
        let cycle = self.percent(4);
        let candidates: Vec<(RawHandle, Held)> = (world.model.handles_of(caller))
            .filter(|(_, held)| held.rights.contains(needed))
            .filter(|(_, held)| if cycle { above.contains(&held.koid) } else { world.model.is_unnamed(held.koid) })
            .filter(|(_, held)| cycle || !above.contains(&held.koid))
            .collect();
        let (handle, held) = match self.pick(&candidates).filter(|_| !wrong && !candidates.is_empty()) {
            Some((value, held)) => (world.steps.get(&value).copied().unwrap_or(Ref::Of(0)), Some(held)),
            None => {
                self.missed |= !wrong;
                self.handle(world, caller, &[], needed, wrong && !first)
            }
        };
        let name = if self.percent(93) { self.new_name() } else { self.taken_name(world, inside) };
        Ask::Link(directory, name, handle, self.rights(held), permanent)
    }

    // Names.

    fn new_name(&mut self) -> Text {
        match self.below(60) {
            0 => text(BAD_NAMES[self.below(BAD_NAMES.len())]),
            1 => repeat(b"x", 256 + self.below(3)),
            2 => repeat(b"y", 254 + self.below(2)),
            3 => text(&[0xff, 0xfe, self.below(3) as u8 + 1]),
            4..=30 => text(&[b'a' + self.below(6) as u8]),
            _ => text(&[b'a' + self.below(26) as u8, b'a' + self.below(26) as u8]),
        }
    }

    /// Mostly a name of that directory.
    fn taken_name<M: Manager>(&mut self, world: &World<M>, directory: Option<Held>) -> Text {
        let names = directory.map(|directory| world.model.names_in(directory.koid)).unwrap_or_default();
        let at = self.below(names.len().max(1));
        self.missed |= names.is_empty();
        match names.get(at).filter(|_| self.percent(90)) {
            Some((name, _)) => text(name),
            None => self.new_name(),
        }
    }

    /// Mostly a path to something.
    fn path<M: Manager>(&mut self, world: &World<M>, directory: Option<Held>) -> Text {
        match self.below(50) {
            0 => return text(BAD_PATHS[self.below(BAD_PATHS.len())]),
            1 => return repeat(b"a/", 2048 + self.below(2)),
            2 => return self.new_name(),
            _ => {}
        }
        let mut path: Vec<u8> = Vec::new();
        let mut at = directory.map(|directory| directory.koid);
        while let Some(here) = at {
            let names = world.model.names_in(here);
            let (name, koid) = match names.get(self.below(names.len().max(1))) {
                Some((name, koid)) => (name.clone(), Some(*koid)),
                None => break,
            };
            path.extend_from_slice(if path.is_empty() { b"" } else { b"/" });
            path.extend_from_slice(&name);
            at = koid.filter(|_| self.percent(70));
        }
        self.missed |= path.is_empty();
        if path.is_empty() || self.percent(7) {
            path.extend_from_slice(if path.is_empty() { b"" } else { b"/" });
            path.push(b'a' + self.below(6) as u8);
        }
        Text(path)
    }

    fn make(&mut self) -> Make {
        let links = match self.theme {
            Theme::SymbolicLinks => 60,
            Theme::DeepDirectories => 5,
            _ => 20,
        };
        if self.percent(links) { Make::SymbolicLink(self.target()) } else { Make::Directory }
    }

    fn target(&mut self) -> Text {
        match self.below(24) {
            0 => return text(BAD_PATHS[self.below(BAD_PATHS.len())]),
            1 => return text([&b"a/.."[..], b"../", b"/..", b".", b"../../b/../c"][self.below(5)]),
            _ => {}
        }
        let up = [0, 0, 0, 0, 1, 1, 1, 2, 3][self.below(9)];
        let down = self.below(3).max(usize::from(up == 0));
        let mut names: Vec<Vec<u8>> = vec![b"..".to_vec(); up];
        names.extend((0..down).map(|_| vec![b'a' + self.below(6) as u8]));
        Text(names.join(&b'/'))
    }

    fn cursor<M: Manager>(&mut self, world: &World<M>) -> Cursor {
        let latest: Vec<u32> = world.listings().rev().take(12).collect();
        match self.below(20) {
            0..=4 => Cursor::First,
            5 => Cursor::Number([1, 7, 1 << 40, u64::MAX][self.below(4)]),
            6..=9 => latest.first().map_or(Cursor::First, |step| Cursor::After(*step)),
            _ => self.pick(&latest).map_or(Cursor::First, Cursor::After),
        }
    }
}
