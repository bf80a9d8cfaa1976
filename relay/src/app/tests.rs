use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::cli::{Cli, Command};
use crate::fanout::HubInput;

#[test]
fn files_are_shared_between_sockets_and_other_connections() {
    assert_eq!(share(1_024, 50_000, 1_024), (840, 120));
    assert_eq!(share(1_024, 200, 1_024), (200, 760));
    assert_eq!(share(1_024, 900, 1_024), (840, 120));
    assert_eq!(share(1_000_000, 50_000, 1_024), (50_000, 1_024));
    assert_eq!(share(10, 50_000, 1_024), (0, 1));
}

/// A relay that is bound, and waits for a Postgres that is not there.
async fn app() -> (App, String) {
    let settings = [
        "campfire-relay",
        "run",
        "--database-url=postgres://nobody@127.0.0.1:9/nothing",
        "--listen=127.0.0.1:0",
        "--jwt-secret=a secret of at least thirty-two bytes",
        "--shutdown-grace-seconds=1",
    ];
    let Command::Run(config) = Cli::try_parse_from(settings).unwrap().command;
    let app = App::build(*config).await.unwrap();
    let address = app.listeners.clients[0].name();
    (app, address)
}

const PAUSE: Duration = Duration::from_millis(5);

/// Whether `/readyz` says so; nobody may answer.
async fn is_ready(address: &str) -> bool {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    answer.await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

#[derive(Clone, Copy)]
enum Death {
    Panic,
    Return,
}

/// Runs a relay until it says that it is ready, lets the task of this number die, and returns its name and what the
/// relay ends with.
async fn run_until_death(number: usize, death: Death) -> Option<(String, String)> {
    let (app, address) = app().await;
    let hub = app.shared.hub.clone();
    let (running, mut tasks) = app.into_tasks();
    let task = tasks.get_mut(number)?;
    let name = task.name.clone();
    let (kill, killed) = oneshot::channel::<()>();
    let healthy = std::mem::replace(&mut task.run, std::future::pending().boxed());
    task.run = async move {
        tokio::select! {
            outcome = healthy => outcome,
            _ = killed => match death {
                Death::Panic => panic!("it dies"),
                Death::Return => Ok(()),
            },
        }
    }
    .boxed();
    let relay = tokio::spawn(running.run(tasks, std::future::pending()));
    // Each time that Postgres cannot be reached, the hub is told otherwise.
    while !is_ready(&address).await {
        hub.send(HubInput::CaughtUp).await.unwrap();
        tokio::time::sleep(PAUSE).await;
    }
    kill.send(()).unwrap();
    while is_ready(&address).await {
        tokio::time::sleep(PAUSE).await;
    }
    let error = relay.await.unwrap().unwrap_err();
    Some((name, error.to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_dies_takes_the_relay_with_it_whichever_it_is() {
    let mut names = Vec::new();
    while let Some((name, error)) = run_until_death(names.len(), Death::Panic).await {
        assert_eq!(error, format!("the {name} has panicked, so the relay stops: it dies"));
        names.push(name);
        let (name, error) = run_until_death(names.len() - 1, Death::Return).await.unwrap();
        assert_eq!(error, format!("the {name} has ended unexpectedly, so the relay stops"));
    }
    assert_eq!(names[..3], [HUB, INGEST, "snapshot reader"]);
    assert!(names[3].starts_with("listener on 127.0.0.1:"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_told_to_stop_is_no_failure() {
    let (app, _) = app().await;
    app.run(async { "SIGTERM" }).await.unwrap();
}
