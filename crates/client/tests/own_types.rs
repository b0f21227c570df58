//! A user's own type through the crate's own surface: registered, made, read by rights, shared, ended.

use kobj::{AskedRights, Error, ErrorCode, Kept, Koid, Link, Manager, ObjectType, Open, Rights, types};
use std::sync::atomic::{AtomicU64, Ordering};

/// A timeline that a GPU driver would have: a number that only rises.
struct Timeline;

static ENDED: AtomicU64 = AtomicU64::new(0);

impl ObjectType for Timeline {
    const TAG: [u8; 4] = *b"TIME";
    const NAME: &'static str = "timeline";
    const DEFAULT_RIGHTS: Rights = Rights::from_bits(0x1ff);
    type State = AtomicU64;

    fn destroy(_: Koid, state: &AtomicU64) {
        ENDED.fetch_add(state.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[test]
fn a_timeline_is_made_shared_and_ended() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let key = manager.register::<Timeline>().unwrap();
    let guest = manager.root_job().create_guest()?;
    let timeline = manager.caller().create(&key, AtomicU64::new(7))?;
    manager.root_directory().link("frames", &timeline, Link::new().most(Rights::READ))?;
    let looks = guest.give(&manager.root_directory(), Rights::LOOKUP)?;
    let theirs = looks.open::<Timeline>("frames", Open::new())?;
    timeline.state(Rights::WRITE)?.get().unwrap().fetch_add(1, Ordering::Relaxed);
    assert_eq!(theirs.state(Rights::READ)?.get().unwrap().load(Ordering::Relaxed), 8);
    assert_eq!(theirs.state(Rights::WRITE).unwrap_err().code(), ErrorCode::AccessDenied);
    assert_eq!(looks.open::<types::Job>("frames", Open::new()).unwrap_err().code(), ErrorCode::WrongType);
    // A look keeps the object over the end of its process.
    let state = theirs.state(Rights::READ)?;
    drop(timeline);
    guest.kill()?;
    assert_eq!(state.get().unwrap().load(Ordering::Relaxed), 8);
    assert_eq!(ENDED.load(Ordering::Relaxed), 0);
    drop(state);
    manager.settle();
    assert_eq!((ENDED.load(Ordering::Relaxed), manager.live::<Timeline>()), (8, 0));
    manager.audit().unwrap();
    Ok(())
}

#[test]
fn a_type_of_another_manager_is_not_known_here() -> Result<(), Error> {
    let (one, other) = (Manager::embedded()?, Manager::embedded()?);
    let key = one.register::<Timeline>().unwrap();
    assert!(other.caller().create(&key, AtomicU64::new(0)).is_err());
    assert_eq!(other.root_directory().open::<Timeline>("x", Open::new()).unwrap_err().code(), ErrorCode::WrongType);
    let raw = one.caller().create(&key, AtomicU64::new(0))?.into_raw();
    assert_eq!(other.caller().adopt::<Timeline>(raw).unwrap_err().code(), ErrorCode::BadHandle);
    let again = one.caller().adopt::<Timeline>(raw)?;
    assert_eq!(again.duplicate(AskedRights::Same)?.koid()?, again.koid()?);
    Ok(())
}

/// A list whose elements keep each other.
struct Element;

impl ObjectType for Element {
    const TAG: [u8; 4] = *b"ELEM";
    const NAME: &'static str = "element";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    const HAS_LINKS: bool = true;
    type State = std::sync::Mutex<Option<Kept>>;

    fn links(state: &Self::State, visit: &mut dyn FnMut(Koid)) {
        if let Some(kept) = &*state.lock().unwrap() {
            visit(kept.koid());
        }
    }
}

#[test]
fn a_list_that_goes_round_is_found_when_nobody_has_it() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let key = manager.register::<Element>().unwrap();
    let first = manager.caller().create(&key, Default::default())?;
    let second = manager.caller().create(&key, std::sync::Mutex::new(Some(first.keep()?)))?;
    *first.state(Rights::WRITE)?.get().unwrap().lock().unwrap() = Some(second.keep()?);
    let koids = [first.koid()?, second.koid()?];
    assert_eq!(first.why()?.chain.len(), 1);
    assert_eq!(first.holders()?.len(), 1);
    drop(first);
    assert_eq!(second.kept_by()?.len(), 1);
    assert!(manager.unreachable()?.is_empty());
    drop(second);
    let lost: Vec<Koid> = manager.unreachable()?.iter().map(|lost| lost.koid).collect();
    assert_eq!(lost, koids);
    manager.audit().unwrap();
    Ok(())
}

#[test]
fn a_maker_makes_many_within_the_quota_and_leaves_nothing() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let key = manager.register::<Timeline>().unwrap();
    let job = manager.root_job().create_job()?;
    let guest = job.create_guest()?;
    job.set_quota(kobj::Resource::Objects, 101)?;
    let caller = guest.caller().clone();
    let mut maker = caller.maker(&key)?;
    let mut made: Vec<_> = std::iter::from_fn(|| maker.create(AtomicU64::new(0)).ok()).collect();
    assert_eq!(made.len(), 100);
    let typed = maker.typed(made.pop().unwrap())?;
    let equal = maker.duplicate(typed.raw(), Rights::READ)?;
    drop(typed);
    assert_eq!(manager.live::<Timeline>(), 100);
    for handle in made.into_iter().chain([equal]) {
        maker.close(handle)?;
    }
    assert_eq!(manager.live::<Timeline>(), 0);
    drop(maker);
    manager.audit().unwrap();
    Ok(())
}
