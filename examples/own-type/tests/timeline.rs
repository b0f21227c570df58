//! The type does what its page says, through crate kobj alone.

use kobj::{Error, ErrorCode, Link, Manager, Open, Rights, Tracing, assert_balanced, types};
use own_type::{ADVANCE, Points, Timeline};

#[test]
fn a_timeline_is_made_named_shared_by_rights_and_ended() -> Result<(), Error> {
    let manager = Manager::builder().tracing(Tracing::Place).build()?;
    let key = manager.register::<Timeline>().expect("its letters are nobody else's");
    let before = manager.census()?;
    let guest = manager.root_job().create_guest()?;

    let timeline = manager.caller().create(&key, Points::new(100))?;
    manager.root_directory().link("frames", &timeline, Link::new().most(Rights::READ))?;
    let reader = guest.give(&manager.root_directory(), Rights::LOOKUP)?.open::<Timeline>("frames", Open::new())?;

    assert_eq!(timeline.state(ADVANCE)?.get().map(|points| points.advance(7)), Some(7));
    assert_eq!(reader.state(Rights::READ)?.get().map(Points::reached), Some(7));
    assert_eq!(reader.state(ADVANCE).unwrap_err().code(), ErrorCode::AccessDenied);
    assert_eq!(manager.caller().create(&key, Points::new(0)).unwrap_err().code(), ErrorCode::BadArgument);
    assert!(manager.root_directory().open::<types::Job>("frames", Open::new()).is_err());

    guest.kill()?;
    drop((guest, reader, timeline));
    assert_balanced!(before);
    assert_eq!(manager.live::<Timeline>(), 0);
    Ok(())
}

/// The page shows these files whole, so it cannot show what does not compile.
#[test]
fn the_page_shows_this_file() {
    let page = include_str!("../../../docs/add-a-type.md");
    let steps = include_str!("timeline.rs").split("\n/// The page shows").next().unwrap();
    for (name, shown) in [("src/lib.rs", include_str!("../src/lib.rs")), ("tests/timeline.rs", steps)] {
        assert!(page.contains(&format!("```rust\n{shown}```\n")), "docs/add-a-type.md does not show {name} as it is");
    }
}
