//! The tree of everything that `kobj tree`, `ls` and `show` walk: this user's runs by their records, and a census.
//!
//! Each directory is a [`Provider`]: its entries are looked up in the kernel or in the records when they are asked for, so
//! nothing is made for what nobody looks at. [`World`] remembers what was looked up, and one command sees one moment.
//!
//! Names are bytes. What a directory lists may be called by a name with `/` in it (`dev/shm/x`): such a directory takes all
//! that follows as one name.

mod directories;
mod facts;

pub(crate) use directories::count_of_type;
pub(crate) use facts::{Fact, facts};

use crate::commands::objects::{Ages, Census, Users};
use crate::commands::records::{self, Job};
use crate::commands::{dead, listing::Cell};
use crate::report::escape;
use kobj_abi::{HoldHow, HostKind, ObjectType};
use kobj_core::image::{HostImage, Identity};
use kobj_host::containment::Group;
use kobj_host::holders::Holders;
use kobj_host::kinds;
use kobj_host::members::{Member, Sources};
use kobj_host::view::View;
use std::cell::{OnceCell, RefCell};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What an entry is.
#[derive(Clone, Debug)]
pub(crate) enum Thing<'w> {
    /// A directory of the tree itself.
    Directory,
    /// A run.
    Job(&'w Job),
    /// A process of a run.
    Process(&'w Job, &'w Member),
    /// What a run has made and what is still there; its image has the maker and the evidence.
    Made(&'w HostImage),
    /// What a process holds, and how.
    Held(&'w HostImage, Vec<HoldHow>),
    /// A host object as the census sees it.
    Host(&'w HostImage),
    /// An object type of the manager.
    ObjectType(ObjectType),
    /// A kind of host object.
    HostKind(HostKind),
}

impl Thing<'_> {
    /// What stands under TYPE.
    pub(crate) const fn type_name(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Job(_) => "job",
            Self::Process(..) => "process",
            Self::Made(image) | Self::Held(image, _) | Self::Host(image) => image.kind.name(),
            Self::ObjectType(_) | Self::HostKind(_) => "type",
        }
    }
}

/// One entry of a directory.
pub(crate) struct Entry<'w> {
    /// Where it is.
    pub(crate) path: Vec<u8>,
    /// Its name in its directory.
    pub(crate) name: Vec<u8>,
    /// What it is.
    pub(crate) thing: Thing<'w>,
    /// What is in it, if it is a directory too.
    pub(crate) inside: Option<Box<dyn Provider<'w> + 'w>>,
}

/// A directory whose entries are looked up when they are asked for.
pub(crate) trait Provider<'w> {
    /// Every entry, in the order in which it is shown: the name, what it is and what is in it.
    fn list(&self, world: &'w World) -> Vec<Listed<'w>>;

    /// The entries that are called by that name: none, one, or several of one name.
    fn find(&self, world: &'w World, name: &[u8]) -> Vec<Listed<'w>> {
        let mut found = self.list(world);
        found.retain(|listed| listed.0 == name);
        found
    }

    /// How many entries there are; `None` if that cannot be seen.
    fn count(&self, world: &'w World) -> Option<usize> {
        Some(self.list(world).len())
    }

    /// Whether names in it may hold `/`, so that all that follows is one name.
    fn has_long_names(&self) -> bool {
        false
    }

    /// The columns that `kobj ls` shows.
    fn columns(&self) -> &'static [&'static str];

    /// Says on standard error what of it cannot be seen.
    fn tell_not_visible(&self, _: &'w World) {}
}

/// An entry as its directory knows it.
pub(crate) type Listed<'w> = (Vec<u8>, Thing<'w>, Option<Box<dyn Provider<'w> + 'w>>);

/// A directory's path and a name in it. A name's own first `/` stands for the one between.
fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let between: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, between, name].concat()
}

fn entry_in<'w>(directory: &[u8], (name, thing, inside): Listed<'w>) -> Entry<'w> {
    Entry { path: joined(directory, &name), name, thing, inside }
}

impl<'w> Entry<'w> {
    /// The root.
    pub(crate) fn root() -> Self {
        Self {
            path: b"/".to_vec(),
            name: b"/".to_vec(),
            thing: Thing::Directory,
            inside: Some(Box::new(directories::Root)),
        }
    }

    /// The entries in it; none if it is no directory.
    pub(crate) fn entries(&self, world: &'w World) -> Vec<Self> {
        let listed = self.inside.as_ref().map_or_else(Vec::new, |inside| inside.list(world));
        listed.into_iter().map(|listed| entry_in(&self.path, listed)).collect()
    }
}

/// What stands at a path, spelled as it is or as kobj prints it; several where several have one name.
///
/// # Errors
/// A sentence: nothing does; up to where it leads and what to do.
pub(crate) fn resolve<'w>(world: &'w World, path: &OsStr) -> Result<Vec<Entry<'w>>, String> {
    let mut rest = path.as_bytes();
    rest = rest.strip_prefix(b"/").unwrap_or(rest);
    let mut at = Entry::root();
    loop {
        if rest.is_empty() {
            return Ok(vec![at]);
        }
        let Some(inside) = &at.inside else { return Err(not_a_directory(&at)) };
        let end = if inside.has_long_names() { rest.len() } else { component(rest) };
        let name = &rest[..end];
        let mut found = named(world, inside.as_ref(), name);
        if found.is_empty() && end == rest.len() {
            // A directory's path may end in `/`.
            found = name.strip_suffix(b"/").map_or_else(Vec::new, |name| named(world, inside.as_ref(), name));
        }
        inside.tell_not_visible(world);
        rest = rest[end..].strip_prefix(b"/").unwrap_or(&rest[end..]);
        let mut found: Vec<Entry<'w>> = found.into_iter().map(|listed| entry_in(&at.path, listed)).collect();
        at = match found.len() {
            0 => return Err(not_found(&at, name)),
            1 => found.remove(0),
            _ if rest.is_empty() => return Ok(found),
            _ => return Err(not_a_directory(&found[0])),
        };
    }
}

fn component(path: &[u8]) -> usize {
    path.iter().position(|byte| *byte == b'/').unwrap_or(path.len())
}

/// By name, else by the name as it is printed, so that what was shown can be typed.
fn named<'w>(world: &'w World, inside: &dyn Provider<'w>, name: &[u8]) -> Vec<Listed<'w>> {
    let found = inside.find(world, name);
    if !found.is_empty() || !name.contains(&b'\\') {
        return found;
    }
    let mut found = inside.list(world);
    found.retain(|listed| escape::for_terminal(&listed.0).as_bytes() == name);
    found
}

fn not_found(directory: &Entry<'_>, name: &[u8]) -> String {
    let (directory, name) = (escape::for_terminal(&directory.path), escape::for_terminal(name));
    format!("there is no '{name}' in {directory}; kobj ls {directory} lists what is")
}

fn not_a_directory(entry: &Entry<'_>) -> String {
    let (path, kind) = (escape::for_terminal(&entry.path), entry.thing.type_name());
    format!("{path} is a {kind} and no directory; kobj show {path} says what is known of it")
}

/// What was looked up up to now. Everything is asked for when it is needed first, and once.
pub(crate) struct World {
    /// This machine.
    pub(crate) view: View,
    /// Every run of this user that has a record.
    pub(crate) jobs: Vec<Job>,
    kinds: Vec<OnceCell<(Vec<HostImage>, Option<String>)>>,
    told: RefCell<Vec<HostKind>>,
    members: Vec<OnceCell<Vec<Member>>>,
    made: Vec<OnceCell<Vec<HostImage>>>,
    holdings: OnceCell<(Vec<HostImage>, Holders)>,
    ages: OnceCell<Ages>,
    users: OnceCell<Users>,
}

impl World {
    /// With the records read, and nothing else.
    pub(crate) fn new() -> Result<Self, String> {
        let jobs = records::list();
        Ok(Self {
            view: crate::commands::objects::view()?,
            kinds: HostKind::ALL.iter().map(|_| OnceCell::new()).collect(),
            told: RefCell::default(),
            members: jobs.iter().map(|_| OnceCell::new()).collect(),
            made: jobs.iter().map(|_| OnceCell::new()).collect(),
            holdings: OnceCell::new(),
            ages: OnceCell::new(),
            users: OnceCell::new(),
            jobs,
        })
    }

    fn census(&self, kind: HostKind) -> Option<&(Vec<HostImage>, Option<String>)> {
        let index = HostKind::ALL.iter().position(|other| *other == kind)?;
        Some(self.kinds.get(index)?.get_or_init(|| {
            let census = Census::of(&self.view, |other| other == kind);
            (census.found, census.not_visible.into_iter().next().map(|(_, why)| why))
        }))
    }

    /// Every object of a kind that can be seen.
    pub(crate) fn of_kind(&self, kind: HostKind) -> &[HostImage] {
        self.census(kind).map_or(&[], |(found, _)| found)
    }

    /// How many there are; `None` if not all can be seen.
    pub(crate) fn count_of_kind(&self, kind: HostKind) -> Option<usize> {
        self.census(kind).filter(|(_, hidden)| hidden.is_none()).map(|(found, _)| found.len())
    }

    /// Says once on standard error that a kind cannot be seen whole.
    fn tell_kind(&self, kind: HostKind) {
        if let Some((_, Some(why))) = self.census(kind)
            && !self.told.borrow().contains(&kind)
        {
            self.told.borrow_mut().push(kind);
            crate::tell(&format!("kobj: not visible: {}: {}\n", kind.name(), escape::for_terminal(why.as_bytes())));
        }
    }

    fn index_of(&self, job: &Job) -> Option<usize> {
        job.number.checked_sub(1)
    }

    /// The living processes of a run, each held.
    pub(crate) fn members(&self, job: &Job) -> &[Member] {
        let members = self.index_of(job).and_then(|index| self.members.get(index));
        members.map_or(&[], |members| members.get_or_init(|| self.find_members(job)))
    }

    fn find_members(&self, job: &Job) -> Vec<Member> {
        let Ok(contents) = &job.record.contents else { return Vec::new() };
        if !records::is_of_this_namespace(contents) {
            return Vec::new();
        }
        // Each process is held by a descriptor.
        crate::run::keep::allow_descriptors();
        let path = PathBuf::from(OsStr::from_bytes(&contents.group));
        let group = (!contents.group.is_empty()).then(|| Group::open(path).ok()).flatten();
        let cookie = (!contents.cookie.is_empty()).then_some(contents.cookie.as_slice());
        let reaper = job.is_living().then_some(contents.keeper.0);
        let mut members = Sources { group: group.as_ref(), family: None, reaper, cookie }.members(&self.view);
        members.sort_by_key(|member| member.pid);
        members
    }

    /// What is there that a run has made, by its record: proved or not, the evidence says.
    pub(crate) fn made(&self, job: &Job) -> &[HostImage] {
        let made = self.index_of(job).and_then(|index| self.made.get(index));
        made.map_or(&[], |made| {
            made.get_or_init(|| match &job.record.contents {
                Ok(contents) if !contents.settled => {
                    let seen = self.seen(dead::has_a_witness);
                    let (mut own, doubtful) = dead::made_among(&self.view, contents, seen, self.ages());
                    own.extend(doubtful);
                    own
                }
                _ => Vec::new(),
            })
        })
    }

    fn seen(&self, wanted: impl Fn(HostKind) -> bool) -> Vec<HostImage> {
        let kinds = kinds::ALL.iter().map(|kind| kind.kind()).filter(|kind| wanted(*kind));
        kinds.flat_map(|kind| self.of_kind(kind)).cloned().collect()
    }

    /// Every object that a process can be seen to hold, with its holders. Mounts are left out: each process has some.
    fn holdings(&self) -> &(Vec<HostImage>, Holders) {
        self.holdings.get_or_init(|| {
            let images = self.seen(|kind| !matches!(kind, HostKind::Process | HostKind::Mount | HostKind::Cgroup));
            let holders = Holders::of(&self.view, &images);
            (images, holders)
        })
    }

    /// What a process holds, and how.
    pub(crate) fn held_by(&self, pid: u32) -> Vec<(&HostImage, Vec<HoldHow>)> {
        let (images, holders) = self.holdings();
        let how = |index| {
            let of_pid = holders.of_object(index).iter().filter(|holder| holder.pid == pid);
            of_pid.map(|holder| holder.how).collect::<Vec<_>>()
        };
        let held = images.iter().enumerate().map(|(index, image)| (image, how(index)));
        held.filter(|(_, how)| !how.is_empty()).collect()
    }

    /// Says on standard error how many processes could not be looked into, if what they hold was asked.
    pub(crate) fn tell_unreadable(&self) {
        if let Some((_, holders)) = self.holdings.get() {
            crate::commands::tell_unreadable(holders.unreadable);
        }
    }

    /// The clock and the times of birth.
    pub(crate) fn ages(&self) -> &Ages {
        self.ages.get_or_init(|| Ages::read(&self.view))
    }

    /// The names of users.
    pub(crate) fn users(&self) -> &Users {
        self.users.get_or_init(Users::read)
    }

    /// The run of that koid.
    pub(crate) fn job_of(&self, koid: kobj_abi::Koid) -> Option<&Job> {
        self.jobs.iter().find(|job| job.record.contents.as_ref().is_ok_and(|contents| contents.koid == koid))
    }

    /// The object of that identity, as a report prints it.
    pub(crate) fn of_identity(&self, kind: HostKind, identity: &str) -> Option<&HostImage> {
        self.of_kind(kind).iter().find(|image| image.identity.to_string() == identity)
    }
}

/// The name of a kind's directory.
pub(crate) fn folder_name(kind: HostKind) -> Vec<u8> {
    [kind.name(), kind.plural_ending()].concat().into_bytes()
}

/// An object's name in its kind's directory: a process goes by its number, a path without its first `/`.
fn short_name(image: &HostImage) -> Vec<u8> {
    match image.identity {
        Identity::Process { pid, .. } => pid.to_string().into_bytes(),
        _ => match image.name.strip_prefix(b"/") {
            Some(rest) if !rest.is_empty() => rest.to_vec(),
            _ => image.name.clone(),
        },
    }
}

/// Where a host object stands under /host.
pub(crate) fn path_of(image: &HostImage) -> Vec<u8> {
    [&b"/host/"[..], &folder_name(image.kind), b"/", &short_name(image)].concat()
}

/// Where a run stands.
pub(crate) fn path_of_job(job: &Job) -> Vec<u8> {
    format!("/jobs/{}", job.number).into_bytes()
}

/// Every column of `kobj ls`.
pub(crate) const COLUMNS: [&str; 20] = [
    "NAME", "TYPE", "COUNT", "SIZE", "LABEL", "STATE", "PID", "COMMAND", "CREATOR", "HOW", "AGE", "OWNER", "UID",
    "CLASS", "PROVED", "HOLDERS", "IDENTITY", "KOID", "LINK", "PATH",
];

/// One row of `kobj ls`, in the order of [`COLUMNS`]; who holds a host object is looked up by the caller.
pub(crate) fn row<'w>(world: &'w World, entry: &Entry<'w>, with_count: bool, holders: Cell) -> Vec<Cell> {
    let count = || entry.inside.as_ref()?.count(world);
    let mut row = vec![Cell::Nothing; COLUMNS.len()];
    let mut put = |column: &str, cell: Cell| {
        if let Some(index) = COLUMNS.iter().position(|known| *known == column) {
            row[index] = cell;
        }
    };
    put("NAME", Cell::Text(entry.name.clone()));
    put("TYPE", Cell::text(entry.thing.type_name()));
    put("PATH", Cell::Text(entry.path.clone()));
    put("HOLDERS", holders);
    if with_count {
        put("COUNT", number(count()));
    }
    match &entry.thing {
        Thing::Directory => {}
        Thing::Job(job) => {
            put("LABEL", Cell::Text(job.label()));
            put("STATE", Cell::text(job.state(&world.view)));
            if let Ok(contents) = &job.record.contents {
                put("PID", contents.command.map_or(Cell::Nothing, |(pid, _)| Cell::Number(pid.into())));
                put("COMMAND", Cell::Text(contents.command_line.join(&b' ')));
                put("KOID", Cell::text(&contents.koid.to_string()));
                put("UID", Cell::Number(contents.uid.into()));
                put("OWNER", Cell::Text(world.users().name(contents.uid)));
            }
        }
        Thing::Process(_, member) => {
            put("PID", Cell::Number(member.pid.into()));
            put("COMMAND", Cell::Text(member.command.clone()));
            put("IDENTITY", Cell::text(&member.image().identity.to_string()));
            put("PROVED", Cell::Flag(member.image().is_proved()));
            put("LINK", Cell::Text(path_of(&member.image())));
        }
        Thing::ObjectType(object_type) => put("COUNT", number(directories::count_of_type(world, *object_type))),
        Thing::HostKind(kind) => put("COUNT", number(world.count_of_kind(*kind))),
        Thing::Made(image) | Thing::Held(image, _) | Thing::Host(image) => {
            put("SIZE", image.size.map_or(Cell::Nothing, Cell::Size));
            put("AGE", world.ages().of(image).map_or(Cell::Nothing, Cell::Age));
            put("UID", image.uid.map_or(Cell::Nothing, |uid| Cell::Number(uid.into())));
            put("OWNER", image.uid.map_or(Cell::Nothing, |uid| Cell::Text(world.users().name(uid))));
            put("CLASS", Cell::text(image.class.name()));
            put("IDENTITY", Cell::text(&image.identity.to_string()));
            let maker = image.creator.as_ref().map(|creator| creator.pid).or(image.maker_pid);
            put("CREATOR", maker.filter(|pid| *pid != 0).map_or(Cell::Nothing, |pid| Cell::Number(pid.into())));
            if let Identity::Process { pid, .. } = image.identity {
                put("PID", Cell::Number(pid.into()));
                let command = image.name.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
                put("COMMAND", Cell::Text(command.to_vec()));
            }
            match &entry.thing {
                Thing::Held(_, how) => put("HOW", Cell::text(&how_words(how))),
                Thing::Made(image) => put("PROVED", Cell::Flag(image.is_proved())),
                _ => {}
            }
            if !matches!(entry.thing, Thing::Host(_)) {
                put("LINK", Cell::Text(path_of(image)));
            }
        }
    }
    row
}

fn number(count: Option<usize>) -> Cell {
    count.and_then(|count| i64::try_from(count).ok()).map_or(Cell::Nothing, Cell::Number)
}

/// `descriptor, map`.
pub(crate) fn how_words(how: &[HoldHow]) -> String {
    how.iter().map(|how| how.name()).collect::<Vec<_>>().join(", ")
}
