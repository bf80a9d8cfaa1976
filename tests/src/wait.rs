//! Waiting on facts. One deadline, and a message that says what did not happen.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: facts, frames, answers, starts and stops. It finds only what
/// hangs. A machine that builds eight other things meanwhile is slow, and a passing test never waits this long.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Asks `check` until it gives an answer; panics with `what` after [`DEADLINE`].
pub async fn eventually<T>(what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, what, check).await
}

/// [`eventually`] with a deadline of its own.
pub async fn eventually_within<T>(
    deadline: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} for: {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
