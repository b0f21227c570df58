//! From bytes to commands. Eight bytes make one; what was created before is named more often than not.

use kobj_abi::{Era, HostKind, Koid, LinkKind, ObjectType};
use kobj_core::image::{HostImage, Identity};
use kobj_core::types::{Request, host_object, job, process};
use kobj_core::{Answer, Command, Effect, Effects, LinkId, Missing, Outcome, Reply, Ticket};

/// Bytes of a command.
const BYTES: usize = 8;

/// What was seen of a manager so far: enough to make up commands that often mean something.
#[derive(Debug, Default)]
pub struct Script {
    jobs: Vec<Koid>,
    processes: Vec<Koid>,
    hosts: Vec<Koid>,
    /// Everything ever created: what is dead is named too.
    all: Vec<Koid>,
    held: Vec<Koid>,
    links: Vec<LinkId>,
    old_links: Vec<LinkId>,
    tickets: Vec<Ticket>,
    old_tickets: Vec<Ticket>,
    era: u32,
}

fn pick<T: Copy>(list: &[T], by: u8) -> Option<T> {
    (!list.is_empty()).then(|| list[usize::from(by) % list.len()])
}

impl Script {
    /// A script for a manager of that era.
    #[must_use]
    pub fn new(era: Era) -> Self {
        Self { era: era.0, ..Self::default() }
    }

    /// The command of eight bytes.
    #[must_use]
    pub fn command(&self, bytes: [u8; BYTES]) -> Command {
        let [what, a, b, c, d, e, wild, _] = bytes;
        // One name in ten is drawn from everything there ever was, or made up: about a quarter of the commands is refused.
        let wild = |salt: u8| wild.wrapping_mul(salt).is_multiple_of(10);
        let job = |by| self.koid(&self.jobs, by, wild(3), c);
        let process = |by| self.koid(&self.processes, by, wild(5), d);
        let host = |by| self.koid(&self.hosts, by, wild(7), e);
        let any = |by: u8| match by % 4 {
            0 => process(by / 4),
            1 => job(by / 4),
            _ => host(by / 4),
        };
        // A manager without anything in it refuses everything, so it is filled first.
        let what = match what % 64 {
            20.. if self.jobs.is_empty() => 1,
            20.. if self.processes.is_empty() => 5,
            20.. if self.hosts.is_empty() => 11,
            33..=36 if self.links.is_empty() && a % 4 != 0 => 23,
            40..=42 if self.held.is_empty() && a % 4 != 0 => 37,
            53..=56 if self.tickets.is_empty() && a % 4 != 0 => 47,
            57 if b % 2 == 0 => 11,
            what => what,
        };
        match what {
            0 => Command::OpenEra { era: Era(self.era.wrapping_add(u32::from(a % 3)).wrapping_sub(u32::from(b % 2))) },
            1..=4 => self.create((a % 4 != 0).then(|| job(b)), None, c, Request::Job(job::Request {})),
            5..=10 => {
                let request = process::Request { pid: u32::from(a) % 40, started: u64::from(b), ended: c % 5 == 0 };
                self.create((d % 3 != 0).then(|| job(e)), None, c, Request::Process(request))
            }
            11..=22 => {
                let request = Request::HostObject(host_object::Request { image: Box::new(Self::image(a, b)) });
                self.create((d != 0).then(|| job(c)), (d % 2 == 0).then(|| process(e)), 1, request)
            }
            23..=32 => self.link(a, b, &process, &host),
            33..=36 => {
                let list = if wild(11) { &self.old_links } else { &self.links };
                let made_up = || LinkId::from_words(u32::from(a), u64::from(b) + (1 << 40));
                match pick(list, a).or_else(made_up) {
                    Some(link) => Command::Unlink { link },
                    None => Command::Continue,
                }
            }
            37..=39 => Command::Reference { koid: any(a) },
            40..=42 => Command::Release { koid: self.koid(&self.held, a, wild(13), b) },
            43 => Command::Query { koid: any(a) },
            44 => Command::Image { koid: any(a) },
            45..=46 => Command::Why { koid: any(a) },
            47..=49 => Command::BeginScrub { koid: host(a) },
            50..=51 => Command::EndProcess { koid: process(a) },
            52 => Command::ProcessEnded { koid: process(a) },
            53..=56 => {
                let list = if wild(17) { &self.old_tickets } else { &self.tickets };
                let ticket = pick(list, a).unwrap_or(Ticket(u64::from(b)));
                Command::Done { ticket, outcome: if c % 3 == 0 { Outcome::Left } else { Outcome::Destroyed } }
            }
            57 => Command::KillJob { koid: job(a) },
            58..=62 => Command::Close { koid: any(a) },
            _ => Command::Continue,
        }
    }

    fn koid(&self, list: &[Koid], by: u8, wild: bool, salt: u8) -> Koid {
        let made_up = || Koid::new(Era(self.era.wrapping_sub(u32::from(salt % 2))), u32::from(by) + 1);
        let known = if wild { pick(&self.all, by) } else { pick(list, by) };
        let known = known.filter(|_| !(wild && salt.is_multiple_of(4)));
        known.or_else(made_up).or_else(|| Koid::from_raw(1)).unwrap_or_else(|| unreachable!("1 is a koid"))
    }

    fn create(&self, job: Option<Koid>, creator: Option<Koid>, name: u8, request: Request) -> Command {
        let name = match name % 16 {
            0..=7 => None,
            15 => Some(vec![b'x'; 5000]),
            length => Some(vec![b'n'; usize::from(length)]),
        };
        Command::Create { job, creator, name, request }
    }

    fn image(a: u8, b: u8) -> HostImage {
        let kind = HostKind::ALL[usize::from(a) % HostKind::ALL.len()];
        let mut image = HostImage::new(kind, vec![a, b], Identity::Ipc { id: i64::from(b), key: 0, uid: 0 });
        image.size = b.is_multiple_of(2).then(|| u64::from(b) * 4096);
        image
    }

    /// Links of which most are allowed.
    fn link(&self, a: u8, b: u8, process: &dyn Fn(u8) -> Koid, host: &dyn Fn(u8) -> Koid) -> Command {
        let kind = LinkKind::ALL[usize::from(a) % LinkKind::ALL.len()];
        let (source, target) = match kind {
            LinkKind::Contains if !b.is_multiple_of(4) => return self.link(2, b, process, host),
            LinkKind::Holds | LinkKind::Owns | LinkKind::WaitsOn | LinkKind::Contains => (process(b), host(b / 3)),
            LinkKind::Backs | LinkKind::Exports | LinkKind::DerivedFrom => (host(b), host(b.wrapping_add(1 + a / 8))),
        };
        Command::Link { source, kind, target }
    }

    /// Takes note of what came of a command.
    pub fn note(&mut self, command: &Command, reply: &Reply, effects: &Effects) {
        match (command, reply) {
            (Command::OpenEra { era }, Ok(_)) => self.era = era.0,
            (Command::Create { request, .. }, Ok(Answer::Created(koid))) => {
                self.all.push(*koid);
                match request.object_type() {
                    ObjectType::Job => self.jobs.push(*koid),
                    ObjectType::Process => self.processes.push(*koid),
                    ObjectType::HostObject => self.hosts.push(*koid),
                    _ => {}
                }
            }
            (_, Ok(Answer::Linked(link))) => self.links.push(*link),
            (Command::Unlink { link }, _) => {
                self.links.retain(|known| known != link);
                self.old_links.push(*link);
            }
            (Command::Reference { koid }, Ok(_)) => self.held.push(*koid),
            (Command::Release { koid }, _) => {
                let at = self.held.iter().position(|held| held == koid);
                at.map(|at| self.held.swap_remove(at));
            }
            (Command::Done { ticket, .. }, _) => {
                self.tickets.retain(|known| known != ticket);
                self.old_tickets.push(*ticket);
            }
            _ => {}
        }
        for effect in &effects.list {
            let (Effect::Scrub { ticket, .. } | Effect::EndProcess { ticket, .. }) = effect else { continue };
            self.tickets.push(*ticket);
        }
    }

    /// Forgets what is gone, as a caller does who was told so.
    pub fn forget(&mut self, missing: Missing) {
        for list in [&mut self.jobs, &mut self.processes, &mut self.hosts, &mut self.held] {
            list.retain(|known| *known != missing.koid);
        }
    }

    /// Forgets all that the caller knows to be gone.
    pub fn retain(&mut self, alive: impl Fn(Koid) -> bool) {
        for list in [&mut self.jobs, &mut self.processes, &mut self.hosts] {
            list.retain(|known| alive(*known));
        }
    }
}
