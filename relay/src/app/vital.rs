//! The tasks without which the relay is none, each with its name. One that ends before it is told to, by an error, a
//! panic or just so, ends the relay: what is left of it would look alive, and deliver nothing.

use std::any::Any;
use std::collections::HashMap;

use anyhow::{Result, anyhow};
use futures_util::future::BoxFuture;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::error;

/// A task that runs for as long as the relay does.
pub(super) struct VitalTask {
    pub(super) name: String,
    pub(super) run: BoxFuture<'static, Result<()>>,
}

/// Those that run.
#[derive(Default)]
pub(super) struct VitalTasks {
    running: JoinSet<Result<()>>,
    names: HashMap<Id, String>,
}

impl VitalTasks {
    pub(super) fn spawn(&mut self, task: VitalTask) {
        let id = self.running.spawn(task.run).id();
        self.names.insert(id, task.name);
    }

    /// Whether any runs that has this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.values().any(|known| known == name)
    }

    /// Waits until one ends that should not have. Returns why.
    pub(super) async fn first_death(&mut self) -> anyhow::Error {
        let Some((name, outcome)) = self.next_end().await else { return std::future::pending().await };
        match outcome {
            Ok(Err(cause)) => cause,
            Ok(Ok(())) => {
                error!(task = name, "a task of the relay has ended unexpectedly");
                anyhow!("the {name} has ended unexpectedly, so the relay stops")
            }
            Err(failure) => {
                let cause = cause_of(failure);
                error!(task = name, cause, "a task of the relay has panicked");
                anyhow!("the {name} has panicked, so the relay stops: {cause}")
            }
        }
    }

    /// Waits until only this one is left, or none.
    pub(super) async fn all_but(&mut self, name: &str) {
        while self.names.values().any(|known| known != name) {
            self.next_end().await;
        }
    }

    /// Waits for this one and leaves the others, which have been given up.
    pub(super) async fn only(&mut self, name: &str) {
        while self.has(name) {
            self.next_end().await;
        }
    }

    async fn next_end(&mut self) -> Option<(String, Result<Result<()>, JoinError>)> {
        let (id, outcome) = match self.running.join_next_with_id().await? {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(failure) => (failure.id(), Err(failure)),
        };
        Some((self.names.remove(&id).unwrap_or_default(), outcome))
    }
}

fn cause_of(failure: JoinError) -> String {
    let Ok(panic) = failure.try_into_panic() else { return "it was cancelled".to_owned() };
    let panic: &(dyn Any + Send) = &*panic;
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn tasks(run: BoxFuture<'static, Result<()>>) -> VitalTasks {
        let mut tasks = VitalTasks::default();
        tasks.spawn(VitalTask { name: "other".to_owned(), run: std::future::pending().boxed() });
        tasks.spawn(VitalTask { name: "hub".to_owned(), run });
        tasks
    }

    async fn check(run: BoxFuture<'static, Result<()>>, expected: &str) {
        let mut tasks = tasks(run);
        assert_eq!(tasks.first_death().await.to_string(), expected);
        assert!(!tasks.has("hub") && tasks.has("other"));
    }

    #[tokio::test]
    async fn whatever_ends_is_told_by_its_name() {
        check(async { panic!("no row {}", 7) }.boxed(), "the hub has panicked, so the relay stops: no row 7")
            .await;
        check(async { panic!("plain") }.boxed(), "the hub has panicked, so the relay stops: plain").await;
        check(async { Ok(()) }.boxed(), "the hub has ended unexpectedly, so the relay stops").await;
        check(async { Err(anyhow!("the slot is gone")) }.boxed(), "the slot is gone").await;
    }

    #[tokio::test]
    async fn tasks_that_run_on_are_no_death() {
        let mut tasks = tasks(std::future::pending().boxed());
        tokio::task::yield_now().await;
        assert!(tasks.first_death().now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_hub_is_waited_for_last() {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let mut tasks = VitalTasks::default();
        let run = async { Ok(ended.await?) }.boxed();
        tasks.spawn(VitalTask { name: "hub".to_owned(), run });
        tasks.spawn(VitalTask { name: "other".to_owned(), run: async { panic!("late") }.boxed() });
        tasks.all_but("hub").await;
        assert!(tasks.has("hub") && tasks.only("hub").now_or_never().is_none());
        end.send(()).unwrap();
        tasks.only("hub").await;
        assert!(!tasks.has("hub"));
    }
}
