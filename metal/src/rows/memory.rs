//! Memory that can be refused: what was asked for is there or is not, and nothing is half made.

use super::{Row, refused_until_it_succeeds};
use alloc::vec::Vec;
use kobj_memory::{Array, Bytes, Lock, Locked, NoMemory, Pool, Shared, Spin, TryPush, try_box, try_collect};

pub(super) const ROWS: &[Row] = &[
    ("a box whose memory is refused is an error", |machine| {
        assert_eq!(refused_until_it_succeeds(machine, || try_box([7_u64; 9])).map(|array| array[8]), Ok(7));
    }),
    ("a list whose growth is refused keeps what it has", |machine| {
        let mut list: Vec<u32> = Vec::new();
        for number in 0..100 {
            let pushed = refused_until_it_succeeds(machine, || list.try_push(number));
            assert!(pushed.is_ok() && list.len() == number as usize + 1);
        }
        assert_eq!(list.iter().sum::<u32>(), 4950);
    }),
    ("bytes are copied whole or not at all", |machine| {
        let bytes = refused_until_it_succeeds(machine, || Bytes::try_from_slice(b"name")).expect("bytes");
        let copy = refused_until_it_succeeds(machine, || bytes.try_clone()).expect("a copy");
        assert_eq!(&*copy.into_box(), b"name");
    }),
    ("what is collected is whole or not there", |machine| {
        let collected = refused_until_it_succeeds(machine, || try_collect(0..1000_u32)).expect("numbers");
        assert_eq!(collected.len(), 1000);
    }),
    ("entries of an array never move and are never lost", |machine| {
        let mut array: Array<u64> = Array::default();
        let places: Vec<_> = (0..500)
            .map(|number| refused_until_it_succeeds(machine, || array.push(number)).expect("a place"))
            .collect();
        for (number, place) in places.into_iter().enumerate() {
            assert_eq!(array.get(place), Some(&(number as u64)));
        }
    }),
    ("a pool uses a place again", |_| {
        let mut pool: Pool<u64> = Pool::default();
        let first = pool.insert(1).expect("a place");
        assert_eq!(pool.remove(first), Some(1));
        assert_eq!(pool.insert(2), Ok(first));
        assert_eq!((pool.remove(first), pool.remove(first)), (Some(2), None));
    }),
    ("what is shared goes with the last who has it", |machine| {
        let before = (machine.live_bytes)();
        let shared = Shared::try_new([1_u8; 100]).expect("shared bytes");
        let other = shared.clone();
        drop(shared);
        assert_eq!(other[99], 1);
        drop(other);
        assert_eq!((machine.live_bytes)(), before);
    }),
    ("a spinning lock lets in and gives back", |_| {
        let lock = <Spin as Lock>::Around::new(1);
        lock.with(|value| *value += 1);
        assert_eq!(lock.with(|value| *value), 2);
    }),
    ("a refusal is an error, and no panic", |machine| {
        (machine.refuse_after)(Some(0));
        let refused = try_box([0_u8; 4096]).err();
        (machine.refuse_after)(None);
        assert_eq!(refused, Some(NoMemory));
    }),
];
