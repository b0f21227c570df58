//! Group `names`: objects opened by name among 10^6, and the way to 10^6 names and back.
//!
//! Ours is the whole call: the handle of the directory is looked up and its right checked, the path checked and walked,
//! rights of the entry compared, the handle made and charged; then it is closed, counted and refunded. The rival is
//! what one writes by hand: a lock around hashbrown, an `Arc` taken out of it, put into a mutex around a slotmap and
//! removed again; it checks nothing. `names/find-*` is the index alone against hashbrown's.
//!
//! `names/longest-*` are single steps in processor time of the thread; the rival is what std's table takes at worst.

use crate::figure::{Figure, Options, Report, Samples};
use hashbrown::HashMap;
use kobj::{AskedRights, Call, CallAnswer, Caller, Directory, Link, Manager, RawHandle, Rights};
use kobj_core::names::{Name, Names};
use kobj_memory::Place;
use parking_lot::{Mutex, RwLock};
use rustix::time::{ClockId, clock_gettime};
use slotmap::{DefaultKey, SlotMap};
use std::hint::black_box;
use std::sync::Arc;

const GROUP: &str = "names";
const MANY: u32 = 1_000_000;
const ROUNDS: usize = 101;
const OPENS_PER_ROUND: u32 = 10_000;
/// What a name costs here, ours, the rival's and the objects, in bytes; measured.
const BYTES_EACH: usize = 900;

pub(crate) fn run(options: &Options, report: &mut Report) {
    let many = options.most.map_or(MANY, |most| MANY.min(u32::try_from(most).unwrap_or(MANY)));
    let exponent = many.ilog10();
    if options.wants(GROUP, "names/open") {
        open(report, &format!("names/open-close-1e{exponent}"), many);
    }
    if options.wants(GROUP, "names/find") {
        find(report, &format!("names/find-1e{exponent}"), many);
    }
    if options.wants(GROUP, "names/longest") {
        longest_steps(report, many);
    }
}

/// The name of an object: `object-` and eight digits.
struct Text([u8; 15]);

impl Text {
    fn of(number: u32) -> Self {
        let mut text = *b"object-00000000";
        let mut rest = number;
        for digit in text[7..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        Self(text)
    }

    fn name(&self) -> Name<'_> {
        Name::new(&self.0).expect("letters and digits")
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % u64::from(most)) as u32
    }
}

/// Processor time of this thread: what others do meanwhile is not in it.
fn now_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// What the rival keeps for an object.
struct Value {
    koid: u64,
    _rest: [u64; 7],
}

struct Rival {
    names: RwLock<HashMap<Box<[u8]>, Arc<Value>>>,
    handles: Mutex<SlotMap<DefaultKey, Arc<Value>>>,
}

impl Rival {
    fn new(many: u32) -> Self {
        let value = |number| Arc::new(Value { koid: u64::from(number), _rest: [0; 7] });
        let names = (0..many).map(|number| (Text::of(number).0.into(), value(number))).collect();
        Self { names: RwLock::new(names), handles: Mutex::new(SlotMap::new()) }
    }

    fn open_and_close(&self, name: &[u8]) -> Option<u64> {
        let found = self.names.read().get(name).cloned()?;
        let handle = self.handles.lock().insert(found);
        let closed = self.handles.lock().remove(handle)?;
        Some(closed.koid)
    }
}

struct Ours {
    caller: Caller,
    directory: Directory,
    _manager: Manager,
}

impl Ours {
    fn new(many: u32) -> Result<Self, kobj::Error> {
        let manager = Manager::embedded()?;
        let (caller, directory) = (manager.caller(), manager.root_directory());
        for number in 0..many {
            let object = caller.create_directory()?;
            directory.link(Text::of(number).0, &object, Link::new().permanent())?;
        }
        Ok(Self { caller, directory, _manager: manager })
    }

    fn open_and_close(&self, directory: RawHandle, path: &[u8]) -> Option<()> {
        let open = Call::Open { directory, path, rights: AskedRights::Same, expected: None, follow: true };
        let Ok(CallAnswer::Handle(handle)) = self.caller.call(open) else { return None };
        self.caller.call(Call::Close { handle }).ok().map(drop)
    }
}

/// Runs both sides in turn, each on names of its own choice; nanoseconds of one operation.
fn alternate(mut ours: impl FnMut(u32), mut rival: impl FnMut(u32), many: u32) -> (Samples, Samples) {
    let (mut of_ours, mut of_rival) = (Samples::default(), Samples::default());
    let mut random = Random(1);
    let mut round = |side: &mut dyn FnMut(u32), samples: &mut Samples| {
        let began = now_ns();
        (0..OPENS_PER_ROUND).for_each(|_| side(random.below(many)));
        samples.push((now_ns() - began) / f64::from(OPENS_PER_ROUND));
    };
    for _ in 0..ROUNDS {
        round(&mut ours, &mut of_ours);
        round(&mut rival, &mut of_rival);
    }
    (of_ours, of_rival)
}

/// Whether the machine has room for so many; says by name if it has not.
fn has_room(name: &str, many: u32) -> bool {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available =
        text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().split(' ').next()?.parse().ok());
    let needed_kib = many as usize * BYTES_EACH / 1024;
    let fits = available.is_none_or(|available: usize| needed_kib < available);
    if !fits {
        eprintln!("skipped: {name}: needs {} MiB", needed_kib / 1024);
    }
    fits
}

fn open(report: &mut Report, name: &str, many: u32) {
    if !has_room(name, many) {
        return;
    }
    let rival = Rival::new(many);
    let ours = match Ours::new(many) {
        Ok(ours) => ours,
        Err(error) => return eprintln!("skipped: {name}: {error}"),
    };
    let directory = ours.directory.raw();
    let opened = |number| ours.open_and_close(directory, &Text::of(number).0).expect("what was named is opened");
    let found = |number| {
        black_box(rival.open_and_close(&Text::of(number).0).expect("what was entered is found"));
    };
    let (ours, rival) = alternate(opened, found, many);
    let holds = ours.median() <= 1.5 * rival.median();
    report.print(&Figure {
        name,
        group: GROUP,
        unit: "ns",
        ours,
        rivals: vec![("by hand", rival)],
        bar: Some(("at most 1.5 times RwLock<hashbrown> + Arc + Mutex<slotmap>", holds)),
    });
}

fn find(report: &mut Report, name: &str, many: u32) {
    if !has_room(name, many) {
        return;
    }
    let place = |number| Place::new(number).expect("far from the last");
    let mut names = Names::new([1, 2, 3]);
    names.add_directory(place(many)).expect("memory");
    let mut map: HashMap<Box<[u8]>, Place> = HashMap::new();
    for number in 0..many {
        let text = Text::of(number);
        names.insert(place(many), text.name(), place(number), Rights::GENERIC, false).expect("memory");
        map.insert(text.0.into(), place(number));
    }
    let ours = |number| {
        black_box(names.find(place(many), Text::of(number).name()).expect("it is there"));
    };
    let theirs = |number| {
        black_box(map.get(&Text::of(number).0[..]).expect("it is there"));
    };
    let (ours, rival) = alternate(ours, theirs, many);
    report.print(&Figure { name, group: GROUP, unit: "ns", ours, rivals: vec![("hashbrown", rival)], bar: None });
}

/// Each step of the way to so many names in one directory, of listing them, and of the way back in random order.
fn longest_steps(report: &mut Report, many: u32) {
    if !has_room("names/longest", many) {
        return;
    }
    let place = |number| Place::new(number).expect("far from the last");
    let directory = place(many);
    let mut names = Names::new([1, 2, 3]);
    names.add_directory(directory).expect("memory");
    let mut map: std::collections::HashMap<Box<[u8]>, Place> = std::collections::HashMap::new();
    let mut order: Vec<u32> = (0..many).collect();
    let mut random = Random(2);
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at as u32 + 1) as usize);
    }
    let step = |work: &mut dyn FnMut()| {
        let began = now_ns();
        work();
        (now_ns() - began) / 1e3
    };
    let mut to = Vec::with_capacity(many as usize);
    let mut to_theirs = 0.0_f64;
    for number in 0..many {
        let text = Text::of(number);
        to.push(step(&mut || {
            names.insert(directory, text.name(), place(number), Rights::GENERIC, false).expect("memory");
        }));
        let key = text.0.into();
        to_theirs = to_theirs.max(step(&mut || {
            map.insert(Box::clone(&key), place(number));
        }));
    }
    let mut cursor = 0;
    let list =
        (0..many).map(|_| step(&mut || cursor = names.after(directory, cursor).expect("there is one more").cursor));
    let list: Vec<f64> = list.collect();
    let back = order.iter().map(|number| step(&mut || assert!(names.take(place(*number)).is_some())));
    let back: Vec<f64> = back.collect();
    for (name, mut steps, rival) in [("insert", to, Some(to_theirs)), ("next", list, None), ("remove", back, None)] {
        steps.sort_by(f64::total_cmp);
        let most = steps[(steps.len() * 999 / 1000).min(steps.len() - 1)];
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        ours.push(most);
        theirs.push(rival.unwrap_or(f64::NAN));
        eprintln!("{name}: worst {:.1} us, median {:.2} us", steps[steps.len() - 1], steps[steps.len() / 2]);
        report.print(&Figure {
            name: &format!("names/longest-{name}"),
            group: GROUP,
            unit: "us",
            ours,
            rivals: if rival.is_some() { vec![("std, worst", theirs)] } else { Vec::new() },
            bar: Some(("p99.9 under 1 ms", most < 1000.0)),
        });
    }
}
