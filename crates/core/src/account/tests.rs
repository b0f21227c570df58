//! Accounts against a plain model: a list of charges, of which everything else is a sum.

use super::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use kobj_abi::Era;
use std::println;

/// A seeded source of choices (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.below(of.len())]) }
    }
}

fn koid(number: u32) -> Koid {
    Koid::new(Era(9), number).unwrap()
}

const RESOURCES: [Resource; 6] = [
    Resource::Objects,
    Resource::ObjectsOf(TypeNumber(1)),
    Resource::ObjectsOf(TypeNumber(2)),
    Resource::ObjectsOf(TypeNumber(64)),
    Resource::Handles,
    Resource::Bytes,
];

/// How much of a resource a charge is.
fn amount(charge: Charge, resource: Resource) -> u64 {
    match resource {
        Resource::Objects => charge.objects.into(),
        Resource::ObjectsOf(number) if number == charge.object_type => charge.objects.into(),
        Resource::ObjectsOf(_) => 0,
        Resource::Handles => charge.handles.into(),
        Resource::Bytes => charge.bytes,
    }
}

struct Known {
    around: Option<usize>,
    id: AccountId,
    open: bool,
    limits: BTreeMap<Resource, u64>,
    peaks: BTreeMap<Resource, u64>,
    refused: BTreeMap<Resource, u64>,
    /// What was left to it when accounts inside it were closed.
    left_behind: u64,
}

struct Model {
    books: Accounts,
    accounts: Vec<Known>,
    /// Charges that stand, and to which account.
    charges: Vec<(usize, Charge)>,
    leases: Vec<(LeaseId, Lease, usize)>,
    credits: Idle,
}

/// Counters of leases, as threads would have them.
#[derive(Default)]
struct Idle {
    objects: BTreeMap<LeaseId, u32>,
    handles: BTreeMap<LeaseId, u32>,
}

impl Credits for Idle {
    fn recall_objects(&mut self, lease: LeaseId) -> u32 {
        self.objects.remove(&lease).unwrap_or(0)
    }

    fn recall_handles(&mut self, lease: LeaseId) -> u32 {
        self.handles.remove(&lease).unwrap_or(0)
    }

    fn unused_objects(&self, lease: LeaseId) -> u32 {
        self.objects.get(&lease).copied().unwrap_or(0)
    }

    fn unused_handles(&self, lease: LeaseId) -> u32 {
        self.handles.get(&lease).copied().unwrap_or(0)
    }
}

impl Model {
    fn new() -> Self {
        Self {
            books: Accounts::default(),
            accounts: Vec::new(),
            charges: Vec::new(),
            leases: Vec::new(),
            credits: Idle::default(),
        }
    }

    fn is_inside(&self, account: usize, outer: usize) -> bool {
        let mut at = Some(account);
        while let Some(here) = at {
            if here == outer {
                return true;
            }
            at = self.accounts[here].around;
        }
        false
    }

    fn chain(&self, account: usize) -> Vec<usize> {
        let mut chain = Vec::new();
        let mut at = Some(account);
        while let Some(here) = at {
            chain.push(here);
            at = self.accounts[here].around;
        }
        chain
    }

    fn takes(&self, account: usize) -> bool {
        self.chain(account).iter().all(|level| self.accounts[*level].open)
    }

    /// What is really used of a resource at a level.
    fn used(&self, level: usize, resource: Resource) -> u64 {
        let inside = |account: usize| self.is_inside(account, level);
        self.charges.iter().filter(|(account, _)| inside(*account)).map(|(_, charge)| amount(*charge, resource)).sum()
    }

    fn idle(&self, level: usize, resource: Resource) -> u64 {
        let mut idle = 0;
        for (id, lease, account) in self.leases.iter().filter(|(_, _, account)| self.is_inside(*account, level)) {
            let (objects, handles) = (self.credits.unused_objects(*id), self.credits.unused_handles(*id));
            assert_eq!(lease.objects, self.accounts[*account].id);
            idle += amount(lease.charge_of_objects(objects), resource);
            idle += amount(lease.charge_of_handles(handles), resource);
        }
        idle
    }

    /// The first limit that a charge would pass if no credit lay idle, from `account` up, below `end`.
    fn refusal(&self, account: usize, end: Option<usize>, charge: Charge) -> Option<(usize, Resource)> {
        let chain = self.chain(account);
        for level in chain.into_iter().take_while(|level| Some(*level) != end) {
            let number = Resource::ObjectsOf(charge.object_type);
            for resource in [Resource::Objects, number, Resource::Handles, Resource::Bytes] {
                let more = amount(charge, resource);
                let limit = self.accounts[level].limits.get(&resource).copied().unwrap_or(UNLIMITED);
                if more > 0 && self.used(level, resource) + more > limit {
                    return Some((level, resource));
                }
            }
        }
        None
    }

    /// What the books must answer; a refusal is counted.
    fn expect(&mut self, account: usize, end: Option<usize>, charge: Charge, got: Result<(), ChargeError>) -> bool {
        if !self.takes(account) {
            assert_eq!(got, Err(ChargeError::Closed));
            return false;
        }
        let Some((level, resource)) = self.refusal(account, end, charge) else {
            assert_eq!(got, Ok(()), "it was refused though there is room");
            return true;
        };
        let limit = self.accounts[level].limits[&resource];
        let (used, known) = (self.used(level, resource), &mut self.accounts[level]);
        let error = QuotaError { level: known.id, owner: koid(level as u32 + 1), resource, limit, used };
        assert_eq!(got, Err(ChargeError::Quota(error)));
        *known.refused.entry(resource).or_default() += 1;
        false
    }

    /// Peaks are of what is charged, idle credit included.
    fn note_peaks(&mut self) {
        for level in 0..self.accounts.len() {
            for resource in RESOURCES {
                let charged = self.used(level, resource) + self.idle(level, resource);
                let peak = self.accounts[level].peaks.entry(resource).or_default();
                *peak = charged.max(*peak);
            }
        }
    }

    fn check(&self, level: usize) {
        let known = &self.accounts[level];
        // A closed account is there as long as something is charged inside it or refers to it.
        if !known.open {
            return;
        }
        for resource in RESOURCES {
            let usage = self.books.usage(known.id, resource, &self.credits).unwrap();
            assert_eq!(usage.used, self.used(level, resource), "{resource:?} of account {level}");
            let limit = known.limits.get(&resource).copied().unwrap_or(UNLIMITED);
            assert!(usage.limit == limit && usage.refused == known.refused.get(&resource).copied().unwrap_or(0));
            assert_eq!(usage.peak, known.peaks.get(&resource).copied().unwrap_or(0), "peak of {resource:?}");
        }
        let live = self.charges.iter().filter(|(account, _)| self.is_left_to(*account, level));
        let live = live.map(|(_, charge)| u64::from(charge.objects)).sum();
        assert_eq!(self.books.left_behind(known.id), LeftBehind { ever: known.left_behind, live });
    }

    /// Whether what is charged to `account` stands inside a closed account that is directly inside `level`.
    fn is_left_to(&self, account: usize, level: usize) -> bool {
        let chain = self.chain(account);
        chain.windows(2).any(|pair| pair[1] == level && !self.accounts[pair[0]].open)
    }
}

/// One random command, compared with the model.
fn command(model: &mut Model, chance: &mut Chance, done: &mut BTreeMap<&'static str, [u32; 2]>) {
    let all: Vec<usize> = (0..model.accounts.len()).collect();
    let open: Vec<usize> = all.iter().copied().filter(|at| model.accounts[*at].open).collect();
    let mut count = |name, good: bool| done.entry(name).or_default()[usize::from(!good)] += 1;
    match chance.below(100) {
        0..4 => {
            let around = if chance.below(4) == 0 { None } else { chance.pick(&open) };
            if open.len() >= 12 || around.is_some_and(|around| model.chain(around).len() >= 6) {
                return;
            }
            let owner = koid(model.accounts.len() as u32 + 1);
            let got = model.books.open(around.map(|at| model.accounts[at].id), owner);
            let takes = around.is_none_or(|around| model.takes(around));
            count("open", takes);
            assert_eq!(got.is_ok(), takes);
            if let Ok(id) = got {
                let (limits, peaks, refused) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
                model.accounts.push(Known { around, id, open: true, limits, peaks, refused, left_behind: 0 });
            }
        }
        4..7 => {
            let Some(at) = chance.pick(&open) else { return };
            model.books.close(model.accounts[at].id, &mut model.credits);
            model.accounts[at].open = false;
            let left = model.used(at, Resource::Objects);
            if let Some(around) = model.accounts[at].around {
                model.accounts[around].left_behind += left;
            }
            count("close", left == 0);
        }
        7..15 => {
            let Some(at) = chance.pick(&open) else { return };
            let resource = RESOURCES[chance.below(RESOURCES.len())];
            let limit = match chance.below(5) {
                0 => UNLIMITED,
                _ if resource == Resource::Bytes => chance.below(9000) as u64,
                _ => chance.below(40) as u64,
            };
            assert_eq!(model.books.set_limit(model.accounts[at].id, resource, limit), Ok(()));
            model.accounts[at].limits.insert(resource, limit);
            count("set_limit", true);
        }
        15..45 => {
            let from = if chance.below(10) == 0 { &all } else { &open };
            let Some(at) = chance.pick(from).filter(|at| model.accounts[*at].open || still_there(model, *at)) else {
                return;
            };
            let charge = Charge {
                object_type: TypeNumber([1, 2, 64][chance.below(3)]),
                objects: chance.below(3) as u32,
                handles: chance.below(3) as u32,
                bytes: chance.below(300) as u64,
            };
            let got = model.books.charge(model.accounts[at].id, charge, &mut model.credits);
            let good = model.expect(at, None, charge, got);
            if good {
                model.charges.push((at, charge));
            }
            count("charge", good);
        }
        45..65 => {
            if model.charges.is_empty() {
                return;
            }
            let (at, charge) = model.charges.swap_remove(chance.below(model.charges.len()));
            model.books.refund(model.accounts[at].id, charge);
            count("refund", model.accounts[at].open);
        }
        65..75 => {
            let (Some(to), false) = (chance.pick(&open), model.charges.is_empty()) else { return };
            let which = chance.below(model.charges.len());
            let (from, charge) = model.charges[which];
            let common = model.chain(from).into_iter().find(|level| model.is_inside(to, *level));
            let (from, into) = (model.accounts[from].id, model.accounts[to].id);
            let got = model.books.recharge(from, into, charge, &mut model.credits);
            let good = model.expect(to, common, charge, got);
            if good {
                model.charges[which].0 = to;
            }
            count("recharge", good);
        }
        75..78 => {
            let Some(at) = chance.pick(&open) else { return };
            let lease = Lease {
                objects: model.accounts[at].id,
                handles: model.accounts[at].id,
                object_type: TypeNumber([1, 2, 64][chance.below(3)]),
                object_bytes: 128,
                handle_bytes: 24,
            };
            let got = model.books.begin_lease(lease);
            assert_eq!(got.is_ok(), model.takes(at));
            count("begin_lease", got.is_ok());
            if let Ok(id) = got {
                model.leases.push((id, lease, at));
            }
        }
        78..80 => {
            if model.leases.is_empty() {
                return;
            }
            let (id, _, _) = model.leases.swap_remove(chance.below(model.leases.len()));
            model.books.end_lease(id, &mut model.credits);
            count("end_lease", true);
        }
        80..88 => lend(model, chance, &mut count),
        _ => {
            // A thread uses credit of its own, and nobody is told.
            let Some((id, lease, at)) = chance.pick(&model.leases) else { return };
            let idle = [&mut model.credits.objects, &mut model.credits.handles];
            let charges = [lease.charge_of_objects(1), lease.charge_of_handles(1)];
            let which = chance.below(2);
            let used = idle.into_iter().nth(which).and_then(|idle| idle.get_mut(&id)).filter(|left| **left > 0);
            count("use", used.is_some());
            if let Some(left) = used {
                *left -= 1;
                model.charges.push((at, charges[which]));
            }
        }
    }
}

/// Whether a closed account is still known to the books.
fn still_there(model: &Model, account: usize) -> bool {
    let charged = model.charges.iter().any(|(at, _)| model.is_inside(*at, account));
    let leased = model.leases.iter().any(|(_, _, at)| model.is_inside(*at, account));
    let inside = (0..model.accounts.len()).any(|at| model.accounts[at].open && model.is_inside(at, account));
    charged || leased || inside
}

fn lend(model: &mut Model, chance: &mut Chance, count: &mut impl FnMut(&'static str, bool)) {
    let Some((id, lease, at)) = chance.pick(&model.leases) else { return };
    let wanted = chance.below(20) as u32 + 1;
    let objects = chance.below(2) == 0;
    let got = if objects {
        model.books.lend_objects(id, wanted, &mut model.credits)
    } else {
        model.books.lend_handles(id, wanted, &mut model.credits)
    };
    let one = if objects { lease.charge_of_objects(1) } else { lease.charge_of_handles(1) };
    let good = model.expect(at, None, one, got.map(|_| ()));
    if let Ok(lent) = got {
        assert!(good && (1..=wanted).contains(&lent));
        let idle = if objects { &mut model.credits.objects } else { &mut model.credits.handles };
        *idle.entry(id).or_default() += lent;
        for level in model.chain(at) {
            for resource in RESOURCES.into_iter().filter(|resource| amount(one, *resource) > 0) {
                let limit = model.accounts[level].limits.get(&resource).copied().unwrap_or(UNLIMITED);
                assert!(model.used(level, resource) + model.idle(level, resource) <= limit, "more is lent than may be");
            }
        }
    }
    count("lend", good);
}

#[test]
fn accounts_agree_with_a_plain_model() {
    let seed = std::env::var("KOBJ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    println!("KOBJ_SEED={seed}");
    let mut chance = Chance(seed);
    let mut done = BTreeMap::new();
    for _ in 0..100 {
        let mut model = Model::new();
        for number in 0..1000 {
            command(&mut model, &mut chance, &mut done);
            model.note_peaks();
            if let Some(level) = chance.pick(&(0..model.accounts.len()).collect::<Vec<_>>()) {
                model.check(level);
            }
            if number % 50 == 0 {
                (0..model.accounts.len()).for_each(|level| model.check(level));
            }
        }
        // All goes: nothing is left of the books.
        for (id, _, _) in core::mem::take(&mut model.leases) {
            model.books.end_lease(id, &mut model.credits);
        }
        for (at, charge) in core::mem::take(&mut model.charges) {
            model.books.refund(model.accounts[at].id, charge);
        }
        for known in model.accounts.iter().filter(|known| known.open) {
            model.books.close(known.id, &mut model.credits);
        }
        assert_eq!((model.books.accounts.live(), model.books.rows.live(), model.books.leases.live()), (0, 0, 0));
    }
    println!("{done:?}");
    for (name, [good, refused]) in done {
        assert!(good >= 100, "{name} was done {good} times");
        assert!(refused >= 100 || ["set_limit", "end_lease"].contains(&name), "{name} was refused {refused} times");
    }
}

#[test]
fn a_charge_is_refused_at_every_level_or_taken_at_every_level() {
    let mut books = Accounts::default();
    let outer = books.open(None, koid(1)).unwrap();
    let inner = books.open(Some(outer), koid(2)).unwrap();
    books.set_limit(outer, Resource::ObjectsOf(TypeNumber(64)), 1).unwrap();
    let charge = Charge { object_type: TypeNumber(64), objects: 1, handles: 1, bytes: 100 };
    books.charge(inner, charge, &mut NoLeases).unwrap();
    let error = books.charge(inner, charge, &mut NoLeases);
    let expected =
        QuotaError { level: outer, owner: koid(1), resource: Resource::ObjectsOf(TypeNumber(64)), limit: 1, used: 1 };
    assert_eq!(error, Err(ChargeError::Quota(expected)));
    assert_eq!(books.usage(inner, Resource::Bytes, &NoLeases).unwrap().used, 100);
    assert_eq!(
        books.usage(outer, Resource::ObjectsOf(TypeNumber(64)), &NoLeases),
        Some(Usage { used: 1, limit: 1, peak: 1, refused: 1 })
    );
    books.refund(inner, charge);
    assert_eq!(books.usage(outer, Resource::Handles, &NoLeases).unwrap().used, 0);
}

#[test]
fn a_limit_below_the_use_takes_nothing_away_and_lets_nothing_in() {
    let mut books = Accounts::default();
    let job = books.open(None, koid(1)).unwrap();
    let two = Charge { handles: 2, ..Charge::NONE };
    books.charge(job, two, &mut NoLeases).unwrap();
    books.set_limit(job, Resource::Handles, 1).unwrap();
    assert!(books.charge(job, Charge::handle(0), &mut NoLeases).is_err());
    books.charge(job, Charge::object(TypeNumber(1), 10), &mut NoLeases).unwrap();
    books.refund(job, two);
    books.charge(job, Charge::handle(0), &mut NoLeases).unwrap();
}

#[test]
fn survivors_of_a_closed_account_stay_in_the_outer_totals_and_may_be_moved() {
    let mut books = Accounts::default();
    let outer = books.open(None, koid(1)).unwrap();
    let (dying, other) = (books.open(Some(outer), koid(2)).unwrap(), books.open(Some(outer), koid(3)).unwrap());
    let object = Charge::object(TypeNumber(6), 50);
    for _ in 0..3 {
        books.charge(dying, object, &mut NoLeases).unwrap();
    }
    books.set_limit(outer, Resource::Objects, 3).unwrap();
    books.close(dying, &mut NoLeases);
    assert_eq!(books.left_behind(outer), LeftBehind { ever: 3, live: 3 });
    assert_eq!((books.heir(dying), books.live()), (Some(outer), 3));
    assert_eq!(books.charge(dying, object, &mut NoLeases), Err(ChargeError::Closed));
    // The outer level is common to both: it is full, and does not refuse what it has already.
    books.recharge(dying, other, object, &mut NoLeases).unwrap();
    books.recharge(dying, outer, object, &mut NoLeases).unwrap();
    assert_eq!(books.left_behind(outer), LeftBehind { ever: 3, live: 1 });
    assert_eq!(books.usage(outer, Resource::Objects, &NoLeases).unwrap().used, 3);
    books.refund(dying, object);
    assert_eq!((books.owner(dying), books.live()), (None, 2), "its memory goes with its last charge");
    assert_eq!(books.usage(outer, Resource::Objects, &NoLeases).unwrap().used, 2);
}

#[test]
fn idle_credit_is_called_back_before_anybody_is_refused() {
    let mut books = Accounts::default();
    let job = books.open(None, koid(1)).unwrap();
    let (one, other) = (books.open(Some(job), koid(2)).unwrap(), books.open(Some(job), koid(3)).unwrap());
    let lease = Lease { objects: one, handles: one, object_type: TypeNumber(64), object_bytes: 100, handle_bytes: 0 };
    let id = books.begin_lease(lease).unwrap();
    books.set_limit(job, Resource::Objects, 10).unwrap();
    let mut idle = Idle::default();
    let lent = books.lend_objects(id, 64, &mut idle).unwrap();
    assert_eq!(lent, 10);
    idle.objects.insert(id, lent - 4);
    assert_eq!(books.usage(job, Resource::Bytes, &idle).unwrap().used, 400, "six of ten lie idle");
    for _ in 0..6 {
        books.charge(other, Charge::object(TypeNumber(1), 100), &mut idle).unwrap();
    }
    let error = books.charge(other, Charge::object(TypeNumber(1), 100), &mut idle);
    assert!(matches!(error, Err(ChargeError::Quota(QuotaError { used: 10, limit: 10, .. }))), "{error:?}");
    assert_eq!(
        books.usage(job, Resource::Objects, &idle).unwrap(),
        Usage { used: 10, limit: 10, peak: 10, refused: 1 }
    );
}

#[test]
fn accounts_nest_as_deep_as_jobs_and_a_process_and_no_deeper() {
    let mut books = Accounts::default();
    let mut innermost = None;
    for number in 0..u32::from(LEVELS_MOST) {
        innermost = Some(books.open(innermost, koid(number + 1)).unwrap());
    }
    assert_eq!(books.open(innermost, koid(99)), Err(ChargeError::NoMemory));
    books.charge(innermost.unwrap(), Charge::object(TypeNumber(1), 1), &mut NoLeases).unwrap();
    assert_eq!(books.live(), u32::from(LEVELS_MOST));
}

#[test]
fn what_lies_idle_of_handles_alone_is_called_back_at_the_end_too() {
    let mut books = Accounts::default();
    let job = books.open(None, koid(1)).unwrap();
    let one = books.open(Some(job), koid(2)).unwrap();
    let lease = Lease { objects: one, handles: one, object_type: TypeNumber(64), object_bytes: 0, handle_bytes: 24 };
    let id = books.begin_lease(lease).unwrap();
    let mut idle = Idle::default();
    let lent = books.lend_handles(id, 64, &mut idle).unwrap();
    idle.handles.insert(id, lent);
    books.close(one, &mut idle);
    assert_eq!(idle.unused_handles(id), 0);
    assert_eq!(books.usage(job, Resource::Handles, &NoLeases).unwrap().used, 0, "nothing of it stays charged");
}

#[test]
fn a_refused_charge_of_handles_makes_no_row_for_a_type() {
    let mut books = Accounts::default();
    let job = books.open(None, koid(1)).unwrap();
    books.set_limit(job, Resource::Handles, 0).unwrap();
    let refused = books.charge(job, Charge::handle(24), &mut NoLeases);
    assert!(matches!(refused, Err(ChargeError::Quota(_))), "{refused:?}");
    assert_eq!(books.types(job).count(), 0);
}

#[test]
fn a_check_refuses_what_a_charge_would_be_refused_and_charges_nothing() {
    let mut books = Accounts::default();
    let job = books.open(None, koid(1)).unwrap();
    let one = books.open(Some(job), koid(2)).unwrap();
    books.set_limit(job, Resource::Bytes, 30).unwrap();
    assert_eq!(books.check(one, Charge::handle(24), &mut NoLeases), Ok(()));
    assert_eq!(books.usage(one, Resource::Bytes, &NoLeases).unwrap().used, 0);
    let error = QuotaError { level: job, owner: koid(1), resource: Resource::Bytes, limit: 30, used: 0 };
    assert_eq!(books.check(one, Charge::handle(31), &mut NoLeases), Err(ChargeError::Quota(error)));
    assert_eq!(books.usage(job, Resource::Bytes, &NoLeases).unwrap().refused, 1);
    books.charge(one, Charge::handle(0), &mut NoLeases).unwrap();
    books.close(one, &mut NoLeases);
    assert_eq!(books.check(one, Charge::handle(1), &mut NoLeases), Err(ChargeError::Closed));
}

#[test]
fn a_refusal_says_whose_limit_it_was_and_what_to_do() {
    let mut books = Accounts::default();
    let job = books.open(None, koid(1)).unwrap();
    let quota = QuotaError { level: job, owner: koid(1), resource: Resource::Handles, limit: 3, used: 2 };
    let said = "00000009:00000001 may have 3 handles and has 2; close some, or raise its quota";
    assert_eq!(alloc::format!("{}", ChargeError::Quota(quota)), said);
    let said = alloc::format!("{}", ChargeError::Closed);
    assert!(said.contains("has ended"), "{said}");
    assert_eq!(alloc::format!("{}", ChargeError::NoMemory), alloc::format!("{NoMemory}"));
}
