//! A manager that goes, with states that keep other objects or have handles of their own.

use kobj::{Error, Handle, Kept, Link, Manager, ObjectType, Rights};
use std::sync::{Arc, Mutex};

struct Linked;

struct Node {
    kept: Option<Kept>,
    own: Mutex<Option<Handle<Linked>>>,
    _alive: Arc<()>,
}

impl ObjectType for Linked {
    const TAG: [u8; 4] = *b"LNKD";
    const NAME: &'static str = "linked";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = Box<Node>;
}

fn node(alive: &Arc<()>, kept: Option<Kept>) -> Box<Node> {
    Box::new(Node { kept, own: Mutex::default(), _alive: alive.clone() })
}

#[test]
fn states_that_keep_objects_go_with_the_manager() -> Result<(), Error> {
    let alive = Arc::new(());
    {
        let manager = Manager::embedded()?;
        let key = manager.register::<Linked>().unwrap();
        let caller = manager.caller();
        let below = caller.create(&key, node(&alive, None))?;
        let above = caller.create(&key, node(&alive, Some(below.keep()?)))?;
        assert!(above.state(Rights::READ)?.get().unwrap().kept.is_some());
        // A permanent name keeps it until the manager's end.
        manager.root_directory().link("above", &above, Link::new().permanent())?;
        drop((above, below));
        manager.settle();
        assert_eq!(Arc::strong_count(&alive), 3);
    }
    assert_eq!(Arc::strong_count(&alive), 1, "states outlive their manager");
    Ok(())
}

#[test]
fn states_with_handles_of_the_same_manager_go_when_it_is_ended() -> Result<(), Error> {
    let alive = Arc::new(());
    {
        let manager = Manager::embedded()?;
        let key = manager.register::<Linked>().unwrap();
        let object = manager.caller().create(&key, node(&alive, None))?;
        let equal = object.duplicate(Rights::READ)?;
        *object.state(Rights::READ)?.get().unwrap().own.lock().unwrap() = Some(equal);
        drop(object);
        manager.settle();
        assert_eq!(Arc::strong_count(&alive), 2);
        manager.end();
        manager.end();
        assert!(manager.caller().create_directory().is_err());
    }
    assert_eq!(Arc::strong_count(&alive), 1, "states outlive their manager");
    Ok(())
}
