//! Waiting on facts. One deadline, and a message that says what did not happen.

use std::time::{Duration, Instant};

/// How long a fact may take before the test gives up. Generous: a loaded CI
/// machine is slow, and a passing test never waits this long.
pub const DEADLINE: Duration = Duration::from_secs(30);

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
        assert!(started.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
