mod memory;

use super::*;

const LIMITS: OutboxLimits = OutboxLimits { bytes_max: 10, frames_max: 3 };

fn unread() -> Arc<Unread> {
    Unread::new(usize::MAX)
}

fn frame(bytes: usize) -> Frame {
    Frame::text("x".repeat(bytes))
}

#[test]
fn frames_leave_in_order_and_free_their_room() {
    let outbox = Outbox::new(LIMITS, unread());
    let mut taken: Vec<Waiting> = Vec::new();
    for _ in 0..2 {
        outbox.push(frame(4)).unwrap();
        outbox.push(frame(6)).unwrap();
        assert_eq!(outbox.take(&mut taken), None);
    }
    assert_eq!(taken.iter().map(|frame| frame.len()).collect::<Vec<_>>(), [4, 6, 4, 6]);
}

#[tokio::test]
async fn overflow_by_bytes_or_by_frames_gives_the_socket_up() {
    for sizes in [[5, 6].as_slice(), &[1, 1, 1, 1]] {
        let outbox = Outbox::new(LIMITS, unread());
        let (last, fitting) = sizes.split_last().unwrap();
        for size in fitting {
            outbox.push(frame(*size)).unwrap();
        }
        assert_eq!(outbox.push(frame(*last)), Err(Closed));
        assert_eq!(outbox.overflowed().await, CloseReason::SlowConsumer);
        outbox.filled().await;
        let mut taken = Vec::new();
        assert_eq!(outbox.take(&mut taken), Some(CloseReason::SlowConsumer));
        assert!(taken.is_empty());
    }
}

#[test]
fn a_frame_over_the_bound_goes_out_alone() {
    let outbox = Outbox::new(LIMITS, unread());
    outbox.push(frame(100)).unwrap();
    assert_eq!(outbox.push(frame(1)), Err(Closed));
}

#[test]
fn what_can_be_had_again_never_overflows() {
    let outbox = Outbox::new(OutboxLimits { bytes_max: 100, frames_max: 8 }, unread());
    let offer = |bytes, share| outbox.offer(frame(bytes), share);
    assert_eq!(offer(200, Share::Portion), Offered::Queued, "nothing waited");
    assert_eq!(offer(1, Share::ThreeQuarters), Offered::Full);
    let mut taken = Vec::new();
    outbox.take(&mut taken);
    assert_eq!(offer(50, Share::Portion), Offered::Queued);
    assert_eq!(offer(1, Share::Portion), Offered::Full);
    assert_eq!(offer(25, Share::ThreeQuarters), Offered::Queued);
    assert_eq!(offer(1, Share::ThreeQuarters), Offered::Full);
    assert_eq!(outbox.push(frame(25)), Ok(()), "the last quarter is for what is said once");
    taken.clear();
    outbox.take(&mut taken);
    let queued = |share| (0..8).take_while(|_| offer(1, share) == Offered::Queued).count();
    assert_eq!((queued(Share::Portion), queued(Share::ThreeQuarters)), (4, 2));
    outbox.close(CloseReason::Idle);
    assert_eq!(offer(1, Share::Portion), Offered::Closed);
}

#[test]
fn a_close_comes_after_what_waits() {
    let outbox = Outbox::new(LIMITS, unread());
    outbox.push(frame(1)).unwrap();
    outbox.close(CloseReason::Shutdown);
    assert_eq!(outbox.push(frame(1)), Err(Closed));
    let mut taken = Vec::new();
    assert_eq!(outbox.take(&mut taken), None);
    assert_eq!(outbox.take(&mut taken), Some(CloseReason::Shutdown));
    assert_eq!(taken.len(), 1);
}
