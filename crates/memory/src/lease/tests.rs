//! Leases by themselves, with the slab, and under a storm of threads.

use super::*;
use crate::{AcquireError, AddHandle, Birth, Buried, Dropped, Held, Objects, Slab, Stale};
use kobj_abi::Tag;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

/// Says how many of it there are.
struct Witness {
    alive: Arc<AtomicU64>,
    number: u64,
}

impl Witness {
    fn new(alive: &Arc<AtomicU64>, number: u64) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self { alive: alive.clone(), number }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // A state that is dropped twice would count below 0 here.
        assert_ne!(self.alive.fetch_sub(1, Ordering::Relaxed), 0);
    }
}

const ERA: Era = Era(7);
/// Handle credit of each lease here: more than is used.
const HANDLES: u32 = 1_000_000;

struct Setup {
    slab: Slab<u64>,
    key: StateKey<Witness>,
    alive: Arc<AtomicU64>,
}

impl Setup {
    fn new() -> Self {
        let mut slab = Slab::try_new().unwrap();
        let key = slab.register_state::<Witness>(*b"WITN").unwrap();
        Self { slab, key, alive: Arc::default() }
    }

    fn lease(&mut self, owner: u32, credit: u32, koids: u32) -> (LeasePlace, Lease) {
        let (place, mut lease) = self.slab.open_lease(self.key.number(), Place::new(owner)).unwrap();
        assert!(self.slab.leases_mut().grant_objects(place, credit));
        assert!(self.slab.leases_mut().grant_handles(place, HANDLES));
        self.slab.refill(&mut lease, 4).unwrap();
        lease.set_koids(KoidRange { era: ERA, first: 1 + koids, count: 1_000 });
        (place, lease)
    }

    fn make(&self, lease: &mut Lease, number: u64) -> Result<Reference, LeaseError> {
        lease.create_user(&self.key, 5, Witness::new(&self.alive, number)).map_err(|(error, _)| error)
    }

    fn alive(&self) -> u64 {
        self.alive.load(Ordering::Relaxed)
    }

    /// Buries all that waits.
    fn reap(&mut self) -> u32 {
        let mut freed = 0;
        while let Some(place) = self.slab.front() {
            if let Ok(object) = self.slab.at(place) {
                assert!(matches!(self.slab.take_tag(object), Ok(None | Some(_))));
            }
            freed += u32::from(self.slab.bury_front() == Buried::Freed);
        }
        freed
    }
}

/// Gives up the last handle, which is the last reference.
fn close_last(objects: &Objects, object: Reference) -> Ended<'_> {
    match objects.drop_handle(object.place()) {
        Dropped::Last(ended) => ended,
        other => panic!("not the last: {other:?}"),
    }
}

#[test]
fn a_thread_makes_and_ends_an_object_by_itself() {
    let mut setup = Setup::new();
    let (place, mut lease) = setup.lease(3, 2, 0);
    let objects = setup.slab.shared();
    let object = setup.make(&mut lease, 42).unwrap();
    assert_eq!(object.koid(), Koid::new(ERA, 1).unwrap());
    {
        let held = objects.hold(object).unwrap();
        assert_eq!(held.state(&setup.key).unwrap().number, 42);
        let header = held.header();
        assert_eq!((header.owner(), header.created_us(), header.charge_bytes()), (Place::new(3), 5, 128));
        assert_eq!((header.type_number(), header.counts().handles(), header.references()), (setup.key.number(), 1, 2));
    }
    assert_eq!((setup.slab.live(), lease.left()), (1, (3, 999)));
    let ended = close_last(&objects, object);
    assert_eq!(ended.state(&setup.key).unwrap().number, 42, "hooks look at it");
    assert_eq!(objects.hold(object).err(), Some(AcquireError::Stale));
    assert_eq!(lease.close_last(ended), Burial::Freed);
    assert_eq!((setup.alive(), setup.slab.live(), lease.left()), (0, 0, (4, 999)));
    assert_eq!(setup.slab.leases().unused(place), Unused { objects: 2, handles: HANDLES });
    let again = setup.make(&mut lease, 43).unwrap();
    assert_eq!((again.place(), objects.at(object.place())), (object.place(), Ok(again)));
    assert_eq!(objects.hold(object).err(), Some(AcquireError::Stale), "the koid is another");
    let totals = setup.slab.leases().totals_of(place);
    assert_eq!(totals, Totals { created: 2, destroyed: 1, opened: 2, closed: 1 });
}

#[test]
fn what_a_lease_lacks_is_named_and_changes_nothing() {
    let mut setup = Setup::new();
    let other = setup.slab.register_state::<Witness>(*b"OTHR").unwrap();
    let (place, mut lease) = setup.slab.open_lease(setup.key.number(), None).unwrap();
    assert_eq!(setup.make(&mut lease, 1), Err(LeaseError::NoKoid));
    lease.set_koids(KoidRange { era: ERA, first: 1, count: 2 });
    assert_eq!(setup.make(&mut lease, 1), Err(LeaseError::NoPlace));
    setup.slab.refill(&mut lease, 9).unwrap();
    assert_eq!(setup.make(&mut lease, 1), Err(LeaseError::NoCredit));
    assert!(setup.slab.leases_mut().grant_objects(place, 3));
    assert_eq!(setup.make(&mut lease, 1), Err(LeaseError::NoCredit), "it needs credit for the handle, too");
    assert!(setup.slab.leases_mut().grant_handles(place, 3));
    let wrong = lease.create_user(&other, 0, Witness::new(&setup.alive, 1));
    assert_eq!(wrong.map_err(|(error, _)| error), Err(LeaseError::WrongType));
    let mut elsewhere = Setup::new();
    assert!(elsewhere.make(&mut lease, 1).is_err(), "another slab's key");
    assert!(elsewhere.slab.refill(&mut lease, 10).is_err());
    for number in 0..2 {
        setup.make(&mut lease, number).unwrap();
    }
    assert_eq!(setup.make(&mut lease, 1), Err(LeaseError::NoKoid));
    lease.set_koids(KoidRange { era: ERA, first: 9, count: 2 });
    assert_eq!(setup.slab.leases_mut().close(place), Unused { objects: 1, handles: 1 });
    assert_eq!((setup.make(&mut lease, 1), lease.open_handle()), (Err(LeaseError::Closed), Err(LeaseError::Closed)));
    assert_eq!((lease.left(), setup.alive()), ((7, 2), 2));
    assert!(setup.slab.open_lease(TypeNumber(1), None).is_err(), "built-in types are the owner's");
}

#[test]
fn credit_can_be_called_back_at_any_time_and_none_is_lost() {
    let mut setup = Setup::new();
    let (place, mut lease) = setup.lease(3, 4, 0);
    let objects = setup.slab.shared();
    let object = setup.make(&mut lease, 1).unwrap();
    assert_eq!(setup.slab.leases_mut().recall_objects(place), 3);
    assert_eq!(setup.make(&mut lease, 2), Err(LeaseError::NoCredit));
    assert_eq!(lease.bury(close_last(&objects, object)), Burial::Freed);
    let object = setup.make(&mut lease, 3).unwrap();
    assert_eq!(setup.slab.leases_mut().close(place).objects, 0);
    assert_eq!(lease.bury(close_last(&objects, object)), Burial::FreedForOwner, "the charge comes back late");
    assert_eq!(setup.slab.leases_mut().recall_objects(place), 1);
    lease.close_handle();
    lease.close_handle();
    assert_eq!((setup.slab.leases_mut().recall_handles(place), lease.open_handle()), (2, Err(LeaseError::Closed)));
}

#[test]
fn a_thread_that_unwinds_gives_all_back() {
    let mut setup = Setup::new();
    let (place, mut lease) = setup.lease(3, 5, 0);
    let (key, alive) = (setup.key, setup.alive.clone());
    let thread = std::thread::spawn(move || {
        let made = lease.create_user(&key, 0, Witness::new(&alive, 1));
        lease.open_handle().unwrap();
        assert!(made.is_err(), "unwinds on purpose");
    });
    thread.join().unwrap_err();
    let first = Place::new(0).unwrap();
    assert_eq!(setup.slab.leases_mut().take_dropped(first), Some((place, Unused { objects: 4, handles: HANDLES - 2 })));
    assert_eq!(setup.slab.leases_mut().take_dropped(first), None);
    let totals = Totals { created: 1, destroyed: 0, opened: 2, closed: 0 };
    assert_eq!(setup.slab.leases().totals(Some(key.number())), totals, "what it counted is not forgotten");
    assert_eq!((setup.slab.leases().len(), setup.slab.live()), (0, 1));
    let used = setup.slab.shared().used();
    let (_, mut next) = setup.lease(3, 9, 100);
    assert_eq!(setup.slab.shared().used(), used + 1, "its three places are used again, and one more is needed");
    // Its object lives on: another thread closes it, and may bury it, since it is charged to the same owner.
    let objects = setup.slab.shared();
    let object = objects.iter().next().unwrap().reference().unwrap();
    assert_eq!(next.bury(close_last(&objects, object)), Burial::Freed);
    assert_eq!((setup.alive(), setup.slab.live()), (0, 0));
}

#[test]
fn what_is_not_a_leases_to_bury_is_queued_for_the_owner() {
    let mut setup = Setup::new();
    let objects = setup.slab.shared();
    let (_, mut lease) = setup.lease(3, 9, 0);
    let (_, mut stranger) = setup.lease(4, 9, 100);
    // Charged to another.
    let object = setup.make(&mut lease, 1).unwrap();
    assert_eq!(stranger.bury(close_last(&objects, object)), Burial::Queued(true));
    // Named or linked by the owner.
    let known = setup.make(&mut lease, 2).unwrap();
    setup.slab.join_graph(known).unwrap();
    assert_eq!(lease.bury(close_last(&objects, known)), Burial::Queued(false));
    // Of another slab.
    let elsewhere = Setup::new();
    let object = setup.make(&mut lease, 3).unwrap();
    let ended = close_last(&objects, object);
    let (_, mut other) = { elsewhere }.lease(3, 1, 0);
    assert_eq!(other.bury(ended), Burial::Queued(false));
    assert_eq!((setup.alive(), setup.reap(), setup.alive()), (3, 3, 0));
    assert_eq!((setup.slab.live(), setup.slab.dead()), (0, 0));
}

#[test]
fn a_held_object_outlives_its_last_handle_and_its_holder_ends_it() {
    let mut setup = Setup::new();
    let objects = setup.slab.shared();
    let (_, mut lease) = setup.lease(3, 9, 0);
    let object = setup.make(&mut lease, 1).unwrap();
    let held = objects.hold(object).unwrap();
    assert_eq!(held.add_handle(), AddHandle::Counted);
    assert!(matches!(objects.drop_handle(object.place()), Dropped::Remaining));
    let Dropped::LastHandle(last) = objects.drop_handle(object.place()) else { panic!("the last handle") };
    assert_eq!(last.state(&setup.key).unwrap().number, 1, "the last-close hook looks at it");
    assert!(!last.release() && held.add_handle() == AddHandle::NoHandle, "it never comes back");
    assert!(matches!(objects.drop_handle(object.place()), Dropped::None));
    assert_eq!(held.state(&setup.key).unwrap().number, 1);
    assert!(held.release());
    assert_eq!((setup.reap(), setup.alive()), (1, 0));
}

#[test]
fn a_condemned_object_keeps_its_state_for_those_who_hold_it() {
    let mut setup = Setup::new();
    let objects = setup.slab.shared();
    let (_, mut lease) = setup.lease(3, 9, 0);
    let object = setup.make(&mut lease, 1).unwrap();
    let held = objects.hold(object).unwrap();
    assert_eq!(setup.slab.condemn(object), Ok(None));
    assert_eq!(setup.slab.condemn(object), Err(Stale));
    assert_eq!((held.stamp(), held.reference()), (Stamp::Dead(object.koid()), Err(Stale)));
    assert_eq!((objects.hold_at(object.place()).is_none(), setup.slab.bury_front()), (true, Buried::Referenced));
    assert_eq!(held.state(&setup.key).unwrap().number, 1);
    // The closer finds that it is the owner's to end, since the owner took its tag and booked that.
    drop(held);
    let ended = close_last(&objects, object);
    assert_eq!(lease.bury(ended), Burial::Queued(true));
    assert_eq!((setup.reap(), setup.alive(), setup.slab.live(), setup.slab.dead()), (1, 0, 0, 0));
}

#[test]
fn what_waits_for_its_last_close_hook_is_condemned_without_its_link() {
    let mut setup = Setup::new();
    let objects = setup.slab.shared();
    let (_, mut lease) = setup.lease(3, 9, 0);
    let [first, second, third] = [1, 2, 3].map(|number| setup.make(&mut lease, number).unwrap());
    for object in [first, second] {
        assert!(setup.slab.hand_over_last_close(object));
    }
    // The list is second, first; the third is in front of those to be buried.
    assert_eq!([third, second].map(|object| setup.slab.condemn(object)), [Ok(None); 2]);
    let due: Vec<_> = core::iter::from_fn(|| objects.next_last_closed()).map(|held| held.place()).collect();
    assert_eq!(due, [second.place(), first.place()]);
    for object in [first, second, third] {
        drop(objects.drop_handle(object.place()));
    }
    assert_eq!((setup.reap(), setup.alive(), setup.slab.live(), setup.slab.dead()), (3, 0, 0, 0));
}

#[test]
fn an_object_that_a_thread_is_ending_is_not_the_owners() {
    let mut setup = Setup::new();
    let objects = setup.slab.shared();
    let (_, mut lease) = setup.lease(3, 9, 0);
    let object = setup.make(&mut lease, 1).unwrap();
    let ended = close_last(&objects, object);
    assert_eq!((setup.slab.condemn(object), setup.slab.take_tag(object)), (Err(Stale), Err(Stale)));
    assert_eq!(setup.slab.join_graph(object), Err(Stale));
    assert_eq!(lease.bury(ended), Burial::Freed);
    assert_eq!((setup.slab.front(), setup.slab.live()), (None, 0));
}

#[test]
fn states_are_read_by_their_own_key_alone() {
    let mut setup = Setup::new();
    let objects = setup.slab.shared();
    let (_, mut lease) = setup.lease(3, 9, 0);
    let theirs = setup.make(&mut lease, 1).unwrap();
    let number = setup.slab.register_state::<u64>(*b"NUMB").unwrap();
    let koid = Koid::new(ERA, 5_000).unwrap();
    let own = setup.slab.create_user(&number, koid, &Birth::default(), 77).unwrap();
    let body = setup.slab.create(Tag { letters: *b"BODY", ..own.tag() }, &Birth::default(), 7).unwrap();
    let elsewhere = Setup::new();
    let state_of = |object| objects.hold(object).unwrap();
    assert_eq!(state_of(own).state(&number), Some(&77));
    assert!(state_of(own).state(&setup.key).is_none() && state_of(theirs).state(&number).is_none());
    assert!(state_of(body).state(&number).is_none(), "the owner's bodies are the owner's");
    assert!(state_of(theirs).state(&elsewhere.key).is_none(), "the same number, in another slab");
    assert_eq!(
        (setup.slab.body(own), setup.slab.body(theirs), setup.slab.body(body)),
        (Err(Stale), Err(Stale), Ok(&7))
    );
    assert!({ elsewhere.slab }.create_user(&number, koid, &Birth::default(), 1).is_err());
}

/// A state whose drop panics.
struct Bomb(Arc<AtomicU64>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a state's drop panics, on purpose");
    }
}

#[test]
fn a_drop_that_panics_happens_once_and_its_slot_is_freed() {
    let mut slab: Slab<()> = Slab::try_new().unwrap();
    let key = slab.register_state::<Bomb>(*b"BOMB").unwrap();
    let (place, mut lease) = slab.open_lease(key.number(), None).unwrap();
    assert!(slab.leases_mut().grant_objects(place, 9) && slab.leases_mut().grant_handles(place, 9));
    slab.refill(&mut lease, 1).unwrap();
    lease.set_koids(KoidRange { era: ERA, first: 1, count: 9 });
    let drops = Arc::new(AtomicU64::new(0));
    let objects = slab.shared();
    let object = lease.create_user(&key, 0, Bomb(drops.clone())).map_err(|(error, _)| error).unwrap();
    let ended = close_last(&objects, object);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lease.bury(ended))).unwrap_err();
    assert_eq!((objects.stamp(object.place()), lease.left().0, slab.live()), (Stamp::Free, 1, 0));
    // The same by the owner.
    let object = lease.create_user(&key, 0, Bomb(drops.clone())).map_err(|(error, _)| error).unwrap();
    drop(close_last(&objects, object));
    assert_eq!(slab.front(), Some(object.place()));
    slab.take_tag(object).unwrap();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| slab.bury_front())).unwrap_err();
    assert_eq!((slab.bury_front(), slab.dead(), objects.stamp(object.place())), (Buried::Refused, 0, Stamp::Free));
    assert_eq!((objects.panicked_drops(), drops.load(Ordering::Relaxed)), (2, 2));
    drop((lease, slab, objects));
    assert_eq!(drops.load(Ordering::Relaxed), 2);
}

#[test]
fn states_that_are_left_go_with_the_last_who_shares_the_objects() {
    let mut setup = Setup::new();
    let objects = setup.slab.shared();
    let (_, mut lease) = setup.lease(3, 9, 0);
    for number in 0..3 {
        setup.make(&mut lease, number).unwrap();
    }
    let alive = setup.alive.clone();
    drop(setup);
    drop(lease);
    assert_eq!(alive.load(Ordering::Relaxed), 3);
    assert_eq!(objects.iter().count(), 3);
    drop(objects);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn a_lease_keeps_few_of_the_places_it_is_given() {
    let mut setup = Setup::new();
    let objects = setup.slab.shared();
    let (_, mut maker) = setup.lease(3, 5_000, 0);
    let (_, mut ender) = setup.lease(3, 0, 0);
    maker.set_koids(KoidRange { era: ERA, first: 1, count: 5_000 });
    let mut used = 0;
    for number in 0..5_000 {
        if maker.left().0 == 0 {
            setup.slab.refill(&mut maker, 64).unwrap();
        }
        let object = setup.make(&mut maker, number).unwrap();
        assert_eq!(ender.bury(close_last(&objects, object)), Burial::Freed);
        assert!(ender.left().0 <= PLACES_MOST);
        used = objects.used();
    }
    assert!(used < 1_000, "places that one thread ends come back to another: {used}");
    assert_eq!((setup.alive(), setup.slab.live()), (0, 0));
}

/// What a thread of the storm shares with the others.
struct Storm {
    objects: Shared<Objects>,
    key: StateKey<Witness>,
    alive: Arc<AtomicU64>,
    /// Objects that were made, for others to look at and to close: their reference in two words each, 0 for none.
    board: Vec<std::sync::Mutex<Option<Reference>>>,
}

/// One thread: makes objects, shows them, looks at others' and closes them.
fn blow(storm: &Storm, mut lease: Lease, seed: u64, rounds: u64, refill: impl Fn(&mut Lease)) -> u64 {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut made = 0;
    for _ in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = random as usize % storm.board.len();
        match random >> 61 {
            0..=2 => {
                let state = Witness::new(&storm.alive, 0);
                match lease.create_user(&storm.key, 0, state) {
                    Ok(object) => {
                        made += 1;
                        let old = storm.board[at].lock().unwrap().replace(object);
                        if let Some(old) = old {
                            close(storm, &mut lease, old);
                        }
                    }
                    Err((_, state)) => {
                        drop(state);
                        refill(&mut lease);
                    }
                }
            }
            3..=5 => {
                let shown = *storm.board[at].lock().unwrap();
                if let Some(object) = shown
                    && let Ok(held) = storm.objects.hold(object)
                {
                    assert_eq!(held.state(&storm.key).unwrap().number, 0);
                    if held.add_handle() == AddHandle::Counted {
                        assert!(held.header().counts().handles() > 0);
                        close(storm, &mut lease, object);
                    }
                    if random & 1 == 0 {
                        let _queues_the_work = held.release();
                    }
                }
            }
            6 => {
                let taken = storm.board[at].lock().unwrap().take();
                if let Some(object) = taken {
                    close(storm, &mut lease, object);
                }
            }
            _ => {
                let place = Place::new(random as u32 % storm.objects.used().max(1)).unwrap();
                if let Some(held) = storm.objects.hold_at(place) {
                    assert!(held.state(&storm.key).is_some_and(|state| state.number == 0));
                    assert_eq!(held.header().charge_bytes(), LEASED_OBJECT_BYTES);
                }
            }
        }
    }
    made
}

fn close(storm: &Storm, lease: &mut Lease, object: Reference) {
    match storm.objects.drop_handle(object.place()) {
        Dropped::Remaining => {}
        Dropped::LastHandle(held) => assert_eq!(held.state(&storm.key).unwrap().number, 0),
        Dropped::Last(ended) => {
            assert_eq!(ended.state(&storm.key).unwrap().number, 0);
            let _freed_or_queued = lease.close_last(ended);
        }
        Dropped::None => panic!("a handle that was counted is gone"),
    }
}

/// Eight threads make, look at, hold and close objects of each other, while the owner calls credit back, gives it out again,
/// counts and buries. In the end every state was dropped once, every credit is there, and every slot is free.
#[test]
fn a_storm_of_eight_threads_leaves_nothing_and_loses_nothing() {
    const THREADS: u32 = 8;
    const CREDIT: u32 = 300;
    let rounds = if cfg!(miri) { 50 } else { 20_000 };
    let mut setup = Setup::new();
    let mut leases = Vec::new();
    let mut places = Vec::new();
    for thread in 0..THREADS {
        // Two owners: half of what a thread closes is not its to bury.
        let (place, lease) = setup.lease(thread % 2, 0, 0);
        places.push(place);
        leases.push(lease);
    }
    let board = (0..64).map(|_| std::sync::Mutex::new(None)).collect();
    let (objects, key, alive) = (setup.slab.shared(), setup.key, setup.alive.clone());
    let storm = Storm { objects, key, alive, board };
    let next_koid = AtomicU64::new(1);
    // The owner's part, and credit that is in no lease.
    let owner = std::sync::Mutex::new((&mut setup, CREDIT));
    let running = AtomicU64::new(THREADS.into());
    let made: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = leases
            .into_iter()
            .zip(&places)
            .zip(1..)
            .map(|((lease, place), seed)| {
                let (storm, owner, next_koid, running) = (&storm, &owner, &next_koid, &running);
                scope.spawn(move || {
                    let refill = |lease: &mut Lease| {
                        let first = next_koid.fetch_add(500, Ordering::Relaxed) as u32;
                        lease.set_koids(KoidRange { era: ERA, first, count: 500 });
                        let (setup, idle) = &mut *owner.lock().unwrap();
                        setup.slab.refill(lease, 32).unwrap();
                        let grant = (*idle).min(40);
                        *idle -= grant;
                        assert!(setup.slab.leases_mut().grant_objects(*place, grant));
                    };
                    let made = blow(storm, lease, seed, rounds, refill);
                    running.fetch_sub(1, Ordering::Relaxed);
                    made
                })
            })
            .collect();
        let mut at = 0;
        while running.load(Ordering::Relaxed) > 0 {
            {
                let (setup, idle) = &mut *owner.lock().unwrap();
                *idle += setup.slab.leases_mut().recall_objects(places[at % places.len()]);
                let grant = (*idle).min(1 + at as u32 % 90);
                if setup.slab.leases_mut().grant_objects(places[(at / 3) % places.len()], grant) {
                    *idle -= grant;
                }
                let totals = setup.slab.leases().totals(None);
                assert!(totals.destroyed <= totals.created, "{totals:?}");
                // What the owner buries gives credit back to the owner, as what a thread buries does to the thread.
                *idle += setup.reap();
            }
            at += 1;
            std::thread::yield_now();
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let (setup, mut idle) = owner.into_inner().unwrap();
    for shown in &storm.board {
        if let Some(object) = shown.lock().unwrap().take() {
            drop(storm.objects.drop_handle(object.place()));
        }
    }
    idle += setup.reap();
    while let Some((_, unused)) = setup.slab.leases_mut().take_dropped(Place::new(0).unwrap()) {
        idle += unused.objects;
    }
    assert_eq!((idle, setup.alive(), setup.slab.live(), setup.slab.dead()), (CREDIT, 0, 0, 0));
    assert_eq!(setup.slab.leases().totals(Some(key.number())).created, made);
    assert!(made > u64::from(CREDIT), "the storm made {made}");
    assert_eq!(storm.objects.iter().map(|held: Held<'_>| held.place()).next(), None);
    assert!((0..storm.objects.used()).all(|index| storm.objects.stamp(Place::new(index).unwrap()) == Stamp::Free));
    assert_eq!(storm.objects.panicked_drops(), 0);
}
