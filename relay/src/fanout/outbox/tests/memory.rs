//! Memory that all outboxes share.

use std::time::Duration;

use super::super::*;
use crate::fanout::unread::PAUSE;

const LIMITS: OutboxLimits = OutboxLimits { bytes_max: 1_000, frames_max: 100 };

fn outbox(unread: &Arc<Unread>) -> Arc<Outbox> {
    Arc::new(Outbox::new(LIMITS, Arc::clone(unread)))
}

fn frame(bytes: usize) -> Frame {
    Frame::text("x".repeat(bytes))
}

fn take(outbox: &Outbox) -> (usize, Option<CloseReason>) {
    let mut frames: Vec<Waiting> = Vec::new();
    let closed = outbox.take(&mut frames);
    (frames.len(), closed)
}

#[test]
fn a_frame_for_many_sockets_is_counted_once_until_the_last_has_read_it() {
    let unread = Unread::new(10_000);
    let outboxes: Vec<_> = (0..100).map(|_| outbox(&unread)).collect();
    let frame = frame(500);
    outboxes.iter().for_each(|outbox| outbox.push(frame.clone()).unwrap());
    assert_eq!(unread.bytes(), 500);
    assert!(outboxes.iter().skip(1).all(|outbox| take(outbox) == (1, None)));
    assert_eq!(unread.bytes(), 500);
    take(&outboxes[0]);
    assert_eq!(unread.bytes(), 0);
}

#[test]
fn what_the_window_has_waits_there_while_memory_is_short() {
    let unread = Unread::new(100);
    let (slow, quick) = (outbox(&unread), outbox(&unread));
    assert_eq!(slow.offer(frame(60), Share::ThreeQuarters), Offered::Queued);
    assert_eq!(slow.offer(frame(60), Share::ThreeQuarters), Offered::Queued);
    assert_eq!(slow.offer(frame(1), Share::ThreeQuarters), Offered::Full);
    assert_eq!(quick.offer(frame(1), Share::ThreeQuarters), Offered::Queued, "nothing waited");
    take(&slow);
    take(&quick);
    assert_eq!(slow.offer(frame(1), Share::ThreeQuarters), Offered::Queued);
}

#[test]
fn those_that_have_not_read_for_longest_make_room() {
    let unread = Unread::new(1_000);
    let now = Instant::now();
    let outboxes: Vec<_> = (0..20).map(|_| outbox(&unread)).collect();
    // The later ones have been stalled for longer.
    let mut stalls: Vec<_> = (0u32..)
        .zip(&outboxes)
        .map(|(number, outbox)| {
            let since = now - Duration::from_secs(u64::from(number));
            outbox.stall(since, SocketId(number.into()))
        })
        .collect();
    // The oldest takes what is written to it, after all.
    stalls.pop();
    outboxes.iter().for_each(|outbox| outbox.push(frame(56)).unwrap());
    assert!(outboxes.iter().all(|outbox| outbox.push(frame(0)).is_ok()), "1,120 are within a margin");
    outboxes[0].push(frame(6)).unwrap();
    let closed: Vec<_> = (0..20).filter(|number| outboxes[*number].push(frame(0)).is_err()).collect();
    assert_eq!(closed, [17, 18]);
    assert_eq!(take(&outboxes[18]), (0, Some(CloseReason::OutOfMemory)));
    assert_eq!(unread.bytes(), 18 * 56 + 6);
}

#[test]
fn who_has_not_read_for_a_moment_only_is_left_alone() {
    let unread = Unread::new(0);
    let (old, young) = (outbox(&unread), outbox(&unread));
    let now = Instant::now();
    let _stalls = [old.stall(now - Duration::from_secs(2), SocketId(1)), young.stall(now, SocketId(2))];
    unread.relieve(Duration::from_secs(1));
    std::thread::sleep(PAUSE);
    unread.relieve(Duration::from_secs(1));
    assert_eq!((take(&old).1, take(&young).1), (Some(CloseReason::OutOfMemory), None));
}
