//! Hostile bytes for every reader of the kernel's messages: whatever the lengths in them say, reading ends and stays inside.
//!
//! The messages are good ones with words changed and ends cut. The seed is printed; `KOBJ_HOSTILE_SEED=N` runs it again.

use crate::{connector, fanotify, netlink_diag};

const INPUTS: usize = 50_000;

/// Random numbers by xorshift.
struct Random(u64);

impl Random {
    fn new(test: &str) -> Self {
        let clock = std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64);
        let given = std::env::var("KOBJ_HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(clock).max(1);
        println!("{test}: KOBJ_HOSTILE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most.max(1)
    }

    /// The message with up to three words changed to lengths and numbers that hurt, perhaps cut.
    fn mutant(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(3) {
            let small = self.below(80) as u32;
            let value = [0, 1, 3, 4, 15, 16, small, 0x7fff_ffff, 0x8000_0000, u32::MAX][self.below(10)];
            let width = 1 + self.below(4);
            let at = self.below(bytes.len());
            bytes.iter_mut().skip(at).zip(value.to_ne_bytes()).take(width).for_each(|(place, byte)| *place = byte);
        }
        bytes.truncate(bytes.len() - self.below(2) * self.below(bytes.len()));
        bytes
    }
}

/// A message with a header of a length and a kind, and its body.
fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = 16 + body.len() as u32;
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat()
}

#[test]
fn lists_of_sockets_are_read_to_an_end() {
    let mut random = Random::new("sockets");
    let attribute =
        |kind: u16, value: &[u8]| [&(4 + value.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    let head = [&[1, 1, 10, 0][..], &77_u32.to_ne_bytes(), &[0; 8]].concat();
    let unix =
        [head, attribute(0, b"\0abc"), attribute(1, &[7; 8]), attribute(2, &[1; 4]), attribute(3, &[3; 8])].concat();
    let inet = [&[2, 1][..], &[5; 70]].concat();
    let packet =
        [message(20, &unix), message(20, &inet), message(2, &(-2_i32).to_ne_bytes()), message(3, &[])].concat();
    for _ in 0..INPUTS {
        let mut bytes_seen = 0;
        let wrong = random.mutant(&packet);
        let _ = netlink_diag::each_message(&wrong, &mut |body: &[u8]| {
            bytes_seen += body.len();
            let name = netlink_diag::unix_socket(body).and_then(|socket| socket.name);
            assert!(name.is_none_or(|name| name.len() <= body.len()));
            let _ = netlink_diag::inet_socket(body);
        });
        assert!(bytes_seen <= wrong.len(), "bytes were read twice");
    }
}

#[test]
fn file_and_process_events_are_read_to_an_end() {
    let mut random = Random::new("events");
    let handle = [&8_u32.to_ne_bytes()[..], &1_i32.to_ne_bytes(), &[9; 8], b"name\0\0\0\0"].concat();
    let info = [&[2, 0][..], &(12 + handle.len() as u16).to_ne_bytes(), &[4; 8], &handle].concat();
    let length = (24 + info.len()) as u32;
    let metadata =
        [&length.to_ne_bytes()[..], &[3, 0], &24_u16.to_ne_bytes(), &[0; 8], &[255; 4], &77_u32.to_ne_bytes()];
    let events = [metadata.concat(), info].concat().repeat(3);
    for _ in 0..INPUTS {
        let wrong = random.mutant(&events);
        let (mut rest, mut count) = (&wrong[..], 0);
        while let Some((event, after)) = fanotify::next_event(rest, &[]) {
            let name = event.place.map_or(0, |place| place.name.len());
            assert!(after.len() < rest.len() && name <= rest.len(), "an event of no length");
            (rest, count) = (after, count + 1);
        }
        assert!(count <= wrong.len() / 24);
        let _ = connector::parse(&random.mutant(&[1; 76]));
    }
}
