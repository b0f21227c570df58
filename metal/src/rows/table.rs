//! The handle table: numbers that are good once, lookups that pin, closes that never wait.

use super::{Row, refused_until_it_succeeds};
use alloc::vec::Vec;
use kobj_abi::{RawHandle, Rights};
use kobj_memory::{BadHandle, Closed, Content, Next, PinError, Place, Slots, Table};

const MASK: u64 = 0x5bd1_e995_9e37_79b9;

fn content(index: u32) -> Content {
    let object = Place::new(index).expect("a place");
    Content { object, rights: Rights::READ | Rights::DUPLICATE, node: None, inheritable: false }
}

fn open(table: &Table, index: u32) -> RawHandle {
    table.open(content(index)).expect("a handle")
}

fn is_bad(table: &Table, handle: RawHandle) -> bool {
    matches!(table.pin(handle).err(), Some(PinError::BadHandle))
}

pub(super) const ROWS: &[Row] = &[
    ("a handle means what it was made for", |_| {
        let table = Table::new(MASK);
        let handle = open(&table, 7);
        let pin = table.pin(handle).expect("a guard");
        assert_eq!((pin.object(), pin.rights()), (content(7).object, content(7).rights));
    }),
    ("a closed handle is bad", |_| {
        let table = Table::new(MASK);
        let handle = open(&table, 7);
        assert_eq!(table.close(handle), Ok(Closed::Now(content(7))));
        assert!(is_bad(&table, handle));
    }),
    ("of two closes one wins", |_| {
        let table = Table::new(MASK);
        let handle = open(&table, 7);
        assert!(table.close(handle).is_ok());
        assert_eq!(table.close(handle), Err(BadHandle));
    }),
    ("a closed number is never good again, though its slot is", |_| {
        let table = Table::new(MASK);
        let mut closed = Vec::new();
        for index in 0..1000 {
            let handle = open(&table, index);
            assert!(!closed.contains(&handle));
            table.close(handle).map(Closed::content).expect("a close");
            closed.push(handle);
        }
        assert_eq!(table.used(), 1);
        assert!(closed.into_iter().all(|handle| is_bad(&table, handle)));
    }),
    ("another table's handle is bad", |_| {
        let [one, other] = [MASK, !MASK].map(Table::new);
        let handle = open(&one, 7);
        open(&other, 7);
        assert!(is_bad(&other, handle));
    }),
    ("a made-up handle is bad", |_| {
        let table = Table::new(MASK);
        open(&table, 7);
        let made_up = (1..2000).filter_map(RawHandle::from_raw);
        assert!(made_up.filter(|handle| !is_bad(&table, *handle)).count() == 0);
    }),
    ("a close does not wait for a guard, and what it counted stays until the guard goes", |_| {
        let table = Table::new(MASK);
        let handle = open(&table, 7);
        let pin = table.pin(handle).expect("a guard");
        assert_eq!(table.close(handle), Ok(Closed::Later(content(7))));
        assert!(is_bad(&table, handle));
        assert_eq!((table.has_closed(), table.take_closed()), (false, None));
        drop(pin);
        assert!(table.has_closed());
        assert_eq!((table.take_closed(), table.take_closed()), (Some(content(7)), None));
    }),
    ("of two guards the last one hands the entry over", |_| {
        let table = Table::new(MASK);
        let handle = open(&table, 7);
        let [first, second] = [(); 2].map(|()| table.pin(handle).expect("a guard"));
        assert!(table.close(handle).is_ok());
        drop(first);
        assert_eq!(table.take_closed(), None);
        drop(second);
        assert_eq!(table.take_closed(), Some(content(7)));
    }),
    ("a slot whose generations are used up is retired and counted", |_| {
        let table = Table::with_generation_bits(MASK, 2);
        for index in 0..5 {
            let handle = open(&table, index);
            assert!(table.close(handle).is_ok());
        }
        assert_eq!((table.retired(), table.used(), table.live()), (1, 2, 0));
    }),
    ("a slot that was reserved and given back is used again", |_| {
        let table = Table::new(MASK);
        let reserved = table.reserve().expect("a slot");
        let number = reserved.handle();
        assert!(is_bad(&table, number));
        table.give_back(reserved);
        assert_eq!(open(&table, 1), number);
    }),
    ("slots that are kept serve their keeper alone", |_| {
        let table = Table::new(MASK);
        let mut slots = Slots::default();
        let [first, second] = [(); 2].map(|()| table.reserve().expect("a slot"));
        table.keep(&mut slots, first);
        table.keep(&mut slots, second);
        open(&table, 3);
        assert_eq!((slots.len(), table.used()), (2, 3));
        let kept = table.take_kept(&mut slots).expect("a slot");
        assert!(!is_bad(&table, table.commit(kept, content(4))));
        table.give_back_all(slots);
        open(&table, 5);
        assert_eq!((table.used(), table.live()), (3, 3));
    }),
    ("a sweep meets every handle once, in bounded steps", |_| {
        let table = Table::new(MASK);
        (0..100).map(|index| open(&table, index)).for_each(drop);
        let (mut at, mut seen, mut steps) = (0, 0, 0);
        loop {
            steps += 1;
            match table.next_from(at, 8) {
                Next::Found(pin) => (at, seen) = (pin.index() + 1, seen + 1),
                Next::GoOn(next) => at = next,
                Next::End => break,
            }
        }
        assert!(seen == 100 && steps <= 101);
    }),
    ("a table without memory refuses and changes nothing", |machine| {
        let table = Table::new(MASK);
        for index in 0..2000 {
            let opened = refused_until_it_succeeds(machine, || table.open(content(index)));
            assert!(opened.is_ok() && table.used() == index + 1);
        }
        assert_eq!(table.live(), 2000);
    }),
    ("a close asks for no memory", |machine| {
        let table = Table::new(MASK);
        let handles: Vec<RawHandle> = (0..1000).map(|index| open(&table, index)).collect();
        (machine.refuse_after)(Some(0));
        let closed = handles.iter().filter(|handle| table.close(**handle).is_ok()).count();
        (machine.refuse_after)(None);
        assert_eq!((closed, table.live()), (1000, 0));
    }),
];
