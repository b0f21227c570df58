//! A hook that panics, and somebody who only comes by.

use kobj::{Error, Koid, Manager, ObjectType, Rights};

struct Bad;

impl ObjectType for Bad {
    const TAG: [u8; 4] = *b"BADH";
    const NAME: &'static str = "bad";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = ();

    fn destroy(_: Koid, (): &()) {
        panic!("a hook of the test's");
    }
}

#[test]
fn who_comes_by_a_panicking_hook_has_what_he_asked_for() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let key = manager.register::<Bad>().unwrap();
    let one = manager.caller().create(&key, ())?;
    // A look hands nothing over to hooks: the next call runs them, whose ever it is.
    let kept = one.keep()?;
    drop(one);
    drop(kept);
    let innocent = manager.caller().create(&key, ())?;
    assert!(innocent.koid().is_ok());
    drop(innocent);
    manager.settle();
    assert_eq!(manager.live::<Bad>(), 0);
    manager.audit().unwrap();
    Ok(())
}
